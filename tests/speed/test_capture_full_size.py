"""A dry run of `erase` at a published size: real prompts through a smaller model, random states through a real fit."""

from __future__ import annotations

import capture_full_size
import pytest
import torch
from full_size import NAMES, behind_a_processor
from speed_kit import Run, is_ratio, is_timing

from mllmeraser.samples import Sample
from tiny import picture

DRY = ("--layers", 4, "--width", 128, "--prompts", 6, "--batch", 2, "--keep", 5, "--repeats", 2, "--dtype", "float32")


@pytest.mark.parametrize("name", NAMES)
def test_a_random_model_takes_prompts(name: str) -> None:
    model = behind_a_processor(name, 4, 128, "cpu", torch.float32, 0)
    inputs = model.encode([Sample("Who is this?", picture(1)), Sample("Hi")])
    shown = (inputs["input_ids"] == model.family.image_token_id(model.hf)).sum(1)
    assert shown.tolist() == [16, 0]
    assert model.next_token_logits([Sample("Who is this?", picture(1))]).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_report(name: str, report: Run) -> None:
    found = report(capture_full_size.main, name, *DRY)
    assert found["provenance"]["command"].startswith(f"python benchmarks/capture_full_size.py {name} --layers 4")
    model, linear, passed, in_all = found["results"]
    assert (model["layers"], model["width"]) == (4, 128) and model["weight_bytes"] > 0
    assert (
        linear["prompts"] > 500 > 0 < linear["pictures"]
        and linear["prompt_state_bytes"] > linear["text_tokens"] * 4 * 128
    )
    kinds = ("gates and direction", "gates alone")
    assert passed["prompts"] == 6 and 0 < passed["pictures"] < 6
    assert all(is_ratio(passed["overhead_percent"][kind]) for kind in kinds)
    assert all(is_timing(passed["seconds"][side], 2) for side in ("passes", *kinds))
    assert model["published_layers"] == (32 if name == NAMES[0] else 28)
    deeper = model["published_layers"] / 4
    each = {side: deeper * times["median"] / 6 for side, times in passed["seconds"].items()}
    behind = linear["behind_directions"]
    assert 0 < behind < linear["prompts"]
    capture = behind * each[kinds[0]] + (linear["prompts"] - behind) * each[kinds[1]]
    assert in_all["passes_seconds"] == pytest.approx(linear["prompts"] * each["passes"])
    assert in_all["erase_seconds"] == pytest.approx(capture + linear["seconds"])
    assert 0 < in_all["linear_algebra_percent"] < 100


def test_prompts_are_drawn_from_all_of_a_request() -> None:
    from test_identity_fit import identity_request

    request = identity_request()
    few = capture_full_size.drawn(request, 5)
    assert 4 <= len(few) <= 6 and {sample.image is None for sample in few} == {True, False}
    assert len({sample.digest() for sample in few}) == len(few)
