"""Erasers are sums of subjects: put together and taken out again, nothing of the others moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_identity_fit import identity_request, identity_settings
from worlds import close

from mllmeraser.erasure import Eraser, fit
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.fit.closed_form import directions_from
from mllmeraser.erasure.fit.result import FitResult
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError


@pytest.fixture(scope="module")
def cache(tiny_llava: MultimodalModel) -> PromptStateCache:
    return PromptStateCache(tiny_llava, (0, 1, 2), (3, 4), batch_size=64)


@pytest.fixture(scope="module")
def whole(tiny_llava: MultimodalModel, cache: PromptStateCache) -> FitResult:
    return fit(tiny_llava, identity_request(), identity_settings(), cache=cache)


@pytest.fixture(scope="module")
def single(tiny_llava: MultimodalModel, cache: PromptStateCache) -> list[FitResult]:
    """Each subject in a request of its own, with the same people retained."""
    request = identity_request()
    return [
        fit(tiny_llava, replace(request, subjects=(subject,)), identity_settings(), cache=cache)
        for subject in request.subjects
    ]


def alike(one: Eraser, other: Eraser) -> None:
    """Tensors to the last digit of float32, and the same manifest where it speaks of them."""
    assert one.tensors.keys() == other.tensors.keys() and one.config.subjects == other.config.subjects
    assert one.config.counts == other.config.counts
    for name, tensor in one.tensors.items():
        close(tensor.double(), other.tensors[name].double(), 1e-6 if name.startswith("direction.") else 1e-7)
    assert one.config.calibration.false_alarm_rate_promised == pytest.approx(
        other.config.calibration.false_alarm_rate_promised
    )


def test_erasers_put_together_are_the_eraser_of_all(whole, single, tiny_llava):
    together = consolidate([result.eraser for result in single])
    alike(together, whole.eraser)
    prompts = whole.parts.held_out
    close(read_gate(tiny_llava, together, prompts).pooled, read_gate(tiny_llava, whole.eraser, prompts).pooled, 1e-6)


@pytest.mark.parametrize("out", [0, 1])
def test_taken_out_again_leaves_what_a_fit_without_it_gives(whole, single, out):
    kept = single[1 - out].eraser
    alike(whole.eraser.without(single[out].eraser.config.subjects[0]), kept)
    together = consolidate([result.eraser for result in single])
    alike(together.without(single[out].eraser.config.subjects[0]), kept)


@pytest.mark.parametrize("out", [0, 1])
def test_statistics_add_and_subtract_exactly(whole, single, out):
    merged = single[0].statistics.merge(single[1].statistics)
    for layer, direction in directions_from(whole.statistics, "unknown", (3, 4)).items():
        close(directions_from(merged, "unknown", (3, 4))[layer].vector, direction.vector, 1e-10)
    key = single[out].eraser.config.subjects[0]
    for layer, direction in directions_from(merged.without(key), "unknown", (3, 4)).items():
        alone = directions_from(single[1 - out].statistics, "unknown", (3, 4))[layer]
        close(direction.vector, alone.vector, 1e-8)


def test_a_round_trip_keeps_what_was_put_together(single, tmp_path):
    together = consolidate([result.eraser for result in single])
    loaded = Eraser.from_pretrained(together.save_pretrained(tmp_path / "both"))
    alike(loaded, together)


def test_rivals_are_those_whom_all_retain(single):
    first, second = (result.eraser for result in single)
    name = next(name for name in first.tensors if name.endswith(".cohort"))
    fewer = Eraser(second.config, {**second.tensors, name: second.tensors[name][1:]})
    assert torch.equal(consolidate([first, fewer]).tensors[name], first.tensors[name][1:])


def test_what_does_not_belong_together_is_refused(single, tiny_llava):
    one, other = (result.eraser for result in single)
    with pytest.raises(InputError, match="at least one"):
        consolidate([])
    with pytest.raises(InputError, match="same subject"):
        consolidate([one, one])
    with pytest.raises(InputError, match="strength"):
        consolidate([one, other.replace_config(strength=0.5)])
    basis = next(name for name in one.tensors if name.endswith(".projection"))
    with pytest.raises(InputError, match="bases"):
        consolidate([one, Eraser(other.config, {**other.tensors, basis: other.tensors[basis] * 2})])
    elsewhere = {name: t + 1 if name.startswith("direction.") else t for name, t in other.tensors.items()}
    with pytest.raises(InputError, match="strangers"):
        consolidate([one, Eraser(other.config, elsewhere)])


def test_anchors_of_other_layers_are_refused(tiny_llava):
    with pytest.raises(InputError, match="cache"):
        fit(tiny_llava, identity_request(), identity_settings(), cache=PromptStateCache(tiny_llava, (0, 1, 2), (4,)))
