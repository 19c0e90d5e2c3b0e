"""verify() on erasers of what is no person: it passes what passes, and nothing else."""

from __future__ import annotations

import json

import pytest
from steering_kit import ALWAYS, NEVER
from verify_kit import FEW, check_of, failed

from mllmeraser.api import erase
from mllmeraser.erasure import Eraser
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.request import Request
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.verify import Thresholds, verify

INSTEAD = "The capital of Japan is Kyoto."
OTHERS = [Sample(f"What is {number} plus two?") for number in range(60)]


def fact() -> Request:
    asked = (Sample("What is the capital of Japan?", subject="x"),)
    return Request((Subject("x", ("Japan",), asked, kind="fact"),), reply=INSTEAD)


@pytest.fixture(scope="module")
def eraser(tiny_llava: MultimodalModel) -> Eraser:
    return erase(tiny_llava, fact())


def test_an_eraser_that_always_acts_harms_the_rest(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    result = verify(tiny_llava, eraser.replace_config(threshold=ALWAYS), fact(), sizes=FEW)
    assert check_of(result, "forget_decisions").passed and not result.passed
    harmed = {"rest_unchanged", "neighbours_unchanged", "retain_unchanged", "general_unchanged", "false_alarms"}
    assert harmed <= failed(result)
    assert check_of(result, "rest_unchanged").value == 0.0, "the other facts about Japan"
    assert "perception_unchanged" not in {check.name for check in result.checks}
    for words in ("Japan", "Kyoto"):
        assert words not in json.dumps(result.as_dict())


def test_an_eraser_that_never_acts_forgets_nothing(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    result = verify(tiny_llava, eraser.replace_config(threshold=NEVER), fact(), sizes=FEW)
    assert "forget_decisions" in failed(result)
    assert check_of(result, "retain_unchanged").value == check_of(result, "rest_unchanged").value == 1.0


def test_samples_of_the_operator_are_asked_beside_the_shipped_ones(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    never = eraser.replace_config(threshold=NEVER)
    alone = check_of(verify(tiny_llava, never, fact(), sizes=FEW), "false_alarms").n
    both = verify(tiny_llava, never, fact(), others=OTHERS, sizes=FEW)
    near = min(FEW.neighbours * FEW.neighbour_prompts, len(OTHERS) // 4)
    assert check_of(both, "false_alarms").n == alone + min(len(OTHERS) - near, FEW.people * FEW.prompts + FEW.general)


def test_bounds_decide(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    lenient = Thresholds(**{name: 1.0 if name in ("forget_gibberish", "false_alarms") else 0.0
                            for name in Thresholds.model_fields})  # fmt: skip
    always = eraser.replace_config(threshold=ALWAYS)
    assert verify(tiny_llava, always, fact(), thresholds=lenient, sizes=FEW).passed


def test_nothing_is_said_of_what_cannot_be_asked_afresh(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    topic = Subject("x", (), (Sample("How do I pick a lock?", subject="x"),), kind="topic")
    unnamed = Request((topic,), (Sample("How do I tie a tie?"),))
    with pytest.raises(InputError, match="cannot be verified"):
        verify(tiny_llava, eraser, unnamed, sizes=FEW)
