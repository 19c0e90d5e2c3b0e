"""The shift beside a dense matrix: the same states, and a complete report."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from speed_kit import Run, is_ratio, is_timing
from speed_shift import dense, formula, held_bytes, main, none, steered, world


@pytest.mark.parametrize("tokens", [1, 5])
def test_one_eraser_does_what_its_matrices_do(tokens: int) -> None:
    found = world(48, 3, 1, tokens, "cpu", 0)
    moved = steered(found)[0]()
    torch.testing.assert_close(moved, dense(found)(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(moved, formula(found)(), atol=1e-6, rtol=1e-5)
    assert torch.equal(none(found)(), found.states)
    assert float((moved - found.states).abs().max()) > 1e-4, "something moves"


def test_every_row_has_its_own_erasers() -> None:
    found = world(48, 3, 7, 4, "cpu", 1)
    assert found.chosen is not None and bool(found.chosen.any()) and not bool(found.chosen.all())
    found.chosen[2] = False
    torch.testing.assert_close(steered(found)[0](), formula(found)(), atol=1e-6, rtol=1e-5)
    assert torch.equal(steered(found)[0]()[2], found.states[2]), "a row without erasers keeps its bits"
    alone = replace(found, chosen=torch.ones_like(found.chosen))
    assert not torch.allclose(steered(alone)[0](), steered(found)[0](), atol=1e-4)


def test_bytes_grow_by_the_eraser_and_views_count_once() -> None:
    row = torch.zeros(10)
    assert held_bytes({"a": [row, (row[2:], row.view(2, 5))], "b": 3}) == 40
    sizes = []
    for erasers in (10, 20, 40):
        run, stack = steered(world(256, 3, erasers, 1, "cpu", 0))
        run()
        sizes.append(held_bytes(stack))
    assert sizes[0] >= 10 * 3 * 2 * 256 * 4
    assert (sizes[2] - sizes[1]) / (sizes[1] - sizes[0]) == pytest.approx(2.0, rel=0.05), "linear"


def test_report(report: Run) -> None:
    arguments = ["--width", 32, "--layers", 3, "--erasers", 1, 5, "--tokens", 1, 2, "--repeats", 3, "--warmup", 0]
    found = report(main, *arguments)
    assert [e["key"] for e in found["results"]] == [f"K = {k}, {t} tokens" for k in (1, 5) for t in (1, 2)]
    for entry in found["results"]:
        assert all(is_timing(times, 3) for times in entry["seconds_per_token"].values())
    for entry in found["results"][:2]:
        assert set(entry["seconds_per_token"]) == {"none", "rank-one", "formula", "dense"}
        assert is_ratio(entry["rank_one_of_dense"]["time"]) and is_ratio(entry["formula_of_dense"])
        assert entry["rank_one_of_dense"]["bytes"] == 2 / 32
        assert entry["bytes"] == {"rank-one": 3 * 2 * 32 * 4, "dense": 3 * 32 * 32 * 4}
        assert entry["rank_one_from_dense"] < 1e-5
    for entry in found["results"][2:]:
        assert entry["bytes"]["artifacts"] == 5 * 3 * 2 * 32 * 4 <= entry["bytes"]["held"]
        assert entry["bytes"]["held_per_eraser"] == entry["bytes"]["held"] / 5
        assert entry["rank_one_from_formula"] < 1e-5


@pytest.mark.parametrize("device", ["abacus", "cuda"])
def test_a_device_that_is_not_there_is_refused(
    device: str, report: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        report(main, "--device", device)
    assert ended.value.code == 2 and device in capsys.readouterr().err
