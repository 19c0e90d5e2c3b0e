"""The same eraser with another direction: gates stay, directions are what was asked for."""

from __future__ import annotations

import pytest
import torch
from worlds import quick, small_request

from mllmeraser.erasure import fit
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.contrast_states import ContrastSet, contrast_states
from mllmeraser.erasure.policy import PERSISTENT, TAIL
from mllmeraser.erasure.settings import DirectionSettings
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.samples.errors import InputError
from mllmeraser.studies.erasers import IN_SIGHT, norms, pictured_prompts, redirected, settings_of


@pytest.fixture(scope="module")
def eraser(tiny_llava: MultimodalModel) -> Eraser:
    return fit(tiny_llava, small_request(), quick()).eraser


def test_persistent_is_tail_that_also_decides_while_decoding() -> None:
    persistent, tail = settings_of("persistent", 3), settings_of("tail", 3)
    assert persistent.policy == PERSISTENT and tail.policy == TAIL and persistent.seed == 3
    assert persistent.model_copy(update={"policy": TAIL}) == tail


def test_in_sight_is_the_default_that_hides_nothing() -> None:
    shown, default = settings_of(IN_SIGHT, 3), settings_of("default", 3)
    assert default.policy.masks_prompt and not shown.policy.masks_prompt
    assert shown.model_copy(update={"policy": default.policy}) == default
    with pytest.raises(InputError, match="unknown preset"):
        settings_of("bare", 0)


def test_another_direction_leaves_the_gates_as_they_are(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    made = redirected(tiny_llava, eraser, "clean-image", ["001"], strength=2.5)
    assert made.config.direction.kind == "clean-image" and made.config.strength == 2.5
    assert not [name for name in made.tensors if name.startswith("share.")]
    kept = [name for name in eraser.tensors if name.startswith(("gate.", "calibration."))]
    assert kept and all(torch.equal(eraser.tensors[name], made.tensors[name]) for name in kept)
    for layer in eraser.config.shift_layers:
        point = HookPoint(layer)
        sides = contrast_states(
            tiny_llava, ContrastSet.from_samples(*contrast_prompts(0)), DirectionSettings(kind="clean-image"), [point]
        )
        wanted = sides.erase[point].double().mean(0) - sides.recall[point].double().mean(0)
        torch.testing.assert_close(made.direction(layer), wanted.float(), atol=1e-5, rtol=1e-5)
        assert norms(made)[str(layer)] == pytest.approx(float(wanted.norm()), abs=1e-3)


def test_a_direction_that_no_picture_can_be_made_to_show_is_refused(
    tiny_llava: MultimodalModel, eraser: Eraser
) -> None:
    with pytest.raises(InputError, match="no perturbed picture"):  # random weights say no such sentence
        redirected(tiny_llava, eraser, "idk", ["001"])


def test_pictured_prompts_show_one_person() -> None:
    prompts = pictured_prompts(World("dev"), "001", 4)
    assert len(prompts) == 4 and all(s.image is not None and s.subject == "001" for s in prompts)
    assert len({s.digest() for s in prompts}) == 4
