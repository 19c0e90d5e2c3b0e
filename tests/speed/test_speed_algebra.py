"""The fit algebra beside the published procedure: the same matrix, and a complete report."""

from __future__ import annotations

import pytest
import torch
from speed_algebra import GAMMA, RATIO, disagreement, gram, made_up, main, published, sides
from speed_kit import Run, is_ratio, is_timing

from mllmeraser.erasure.gates import hard_gate, paper_matrix
from mllmeraser.erasure.states.moments import Moments


@pytest.mark.parametrize("width", [16, 48, 160])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_hard_gate_is_the_published_matrix(width: int, seed: int) -> None:
    layer = made_up(width, seed)
    dense = published(gram(layer.retain), layer.forget, layer.direction)
    sums = Moments.from_states(layer.retain), Moments.from_states(layer.forget)
    weight = hard_gate(*sums, ratio=RATIO, gamma=GAMMA).tensors["weight"][0]
    assert float((torch.outer(weight, layer.direction) - dense).norm() / dense.norm()) < 1e-9
    assert disagreement(layer) < 1e-9
    reference = paper_matrix(layer.retain, layer.forget, layer.direction, ratio=RATIO, gamma=GAMMA)
    assert float((reference - dense).norm() / dense.norm()) < 1e-9


def test_another_gate_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*sums: Moments, ratio: float, gamma: float) -> object:
        return hard_gate(*sums, ratio=ratio, gamma=gamma * (1 + 1e-4))

    monkeypatch.setattr("speed_algebra.hard_gate", other)
    assert disagreement(made_up(48, 0)) > 1e-7


def test_states_are_as_many_as_said_and_both_ways_give_the_same() -> None:
    layer = made_up(64, 0)
    assert layer.retain.shape == (96, 64) and layer.forget.shape == (8, 64)
    assert layer.retain.dtype == layer.forget.dtype == torch.float32
    found = {name: run() for name, run in sides(layer).items()}
    for name in ("hard", "soft"):
        given, formed = found[f"{name}, given"], found[f"{name}, formed"]
        assert torch.equal(given.tensors["weight"], formed.tensors["weight"])  # type: ignore[attr-defined]
    assert torch.equal(found["published, given"], found["published, formed"])  # type: ignore[arg-type]


def test_report(report: Run) -> None:
    found = report(main, "--widths", 24, 32, "--repeats", 3, "--seed", 5)
    assert found["provenance"]["seed"] == 5 and "--widths 24 32 --repeats 3" in found["provenance"]["command"]
    assert [entry["key"] for entry in found["results"]] == ["d = 24", "d = 32"]
    for width, entry in zip((24, 32), found["results"], strict=True):
        assert (entry["width"], entry["retain_states"], entry["forget_states"]) == (width, 3 * width // 2, width // 8)
        assert len(entry["seconds"]) == 6 and all(is_timing(times, 3) for times in entry["seconds"].values())
        assert set(entry["times_faster"]) == {"hard, given", "soft, given", "hard, formed", "soft, formed"}
        assert all(is_ratio(times) for times in entry["times_faster"].values())
        assert entry["hard_from_published"] < 1e-9
        assert entry["bytes"] == {"vectors": 8 * width, "dense": 4 * width * width}


def test_a_width_without_forget_states_is_refused(report: Run) -> None:
    with pytest.raises(SystemExit) as ended:
        report(main, "--widths", 4)
    assert ended.value.code == 2
