"""verify() from end to end on a tiny random model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from steering_kit import ALWAYS, NEVER, count_hooks
from verify_kit import FEW, NAME, check_of, failed, one_person
from worlds import paper, quick, small_request

from mllmeraser.erasure import Eraser, fit
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.samples.request import Request
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.verify import Thresholds, Verification, verify


@pytest.fixture(scope="module")
def eraser(tiny_llava: MultimodalModel) -> Eraser:
    return fit(tiny_llava, small_request(subjects=1), quick()).eraser.replace_config(strength=8.0)


@pytest.fixture(scope="module")
def acting(tiny_llava: MultimodalModel, eraser: Eraser) -> Verification:
    return verify(tiny_llava, eraser.replace_config(threshold=ALWAYS), one_person(), sizes=FEW)


def test_an_eraser_that_always_acts_harms_everybody(acting: Verification) -> None:
    assert not acting.passed
    assert check_of(acting, "forget_decisions").value == 1.0 and check_of(acting, "false_alarms").value == 1.0
    assert {"retain_unchanged", "neighbours_unchanged", "general_unchanged", "false_alarms"} <= failed(acting)
    assert check_of(acting, "detached_identical").passed


def test_an_eraser_that_never_acts_forgets_nothing(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    result = verify(tiny_llava, eraser.replace_config(threshold=NEVER), one_person(), sizes=FEW)
    assert {"forget_decisions"} <= failed(result) <= {"forget_decisions", "forget_answers", "conversation_answers"}
    assert check_of(result, "retain_unchanged").value == 1.0 and check_of(result, "false_alarms").value == 0.0


def test_strength_0_changes_no_answer(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    result = verify(tiny_llava, eraser.replace_config(threshold=ALWAYS, strength=0.0), one_person(), sizes=FEW)
    assert check_of(result, "forget_decisions").value == 1.0
    assert check_of(result, "forget_answers").value in (0.0, None)
    assert check_of(result, "retain_unchanged").value == 1.0


def test_bounds_decide(tiny_llava: MultimodalModel, acting: Verification, eraser: Eraser) -> None:
    lenient = Thresholds(**{name: 1.0 if name in ("forget_gibberish", "false_alarms") else 0.0
                            for name in Thresholds.model_fields})  # fmt: skip
    always = eraser.replace_config(threshold=ALWAYS)
    assert verify(tiny_llava, always, one_person(), thresholds=lenient, sizes=FEW).passed


def test_its_metadata(tiny_llava: MultimodalModel, acting: Verification, eraser: Eraser) -> None:
    assert acting.eraser == eraser.digest() and acting.fingerprint == tiny_llava.fingerprint()
    assert "/" not in acting.model, "folders of this machine are private"
    text = json.dumps(acting.as_dict())
    for word in (NAME, *NAME.split(), "Who is"):
        assert word not in text
    assert Verification.of(json.loads(text)) == acting == Verification.of(acting.as_dict())
    with pytest.raises(InputError, match="not a verification"):
        Verification.of({"passed": True})


def test_the_model_is_left_as_it_was(tiny_llava: MultimodalModel, eraser: Eraser, samples: list[Sample]) -> None:
    before = tiny_llava.next_token_logits(samples)

    def stop(stage: str, done: int, total: int) -> None:
        assert 0 < done <= total
        if stage == "answers" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(tiny_llava, eraser, one_person(), sizes=FEW, progress=stop)
    assert count_hooks(tiny_llava.hf) == 0
    assert torch.equal(before, tiny_llava.next_token_logits(samples))


def test_another_model_is_refused(tiny_qwen: MultimodalModel, eraser: Eraser) -> None:
    with pytest.raises(ArtifactError, match="made for"):
        verify(tiny_qwen, eraser, one_person(), sizes=FEW)


def test_a_request_without_picture_and_name_is_refused(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    request = Request((Subject("p", (), (Sample("What is the secret?", subject="p"),)),))
    with pytest.raises(InputError, match="give a picture or a name"):
        verify(tiny_llava, eraser, request, sizes=FEW)


def test_an_eraser_without_decisions(tiny_llava: MultimodalModel) -> None:
    settings = paper(direction=quick().direction.model_copy(update={"kind": "unknown"}))
    made = fit(tiny_llava, small_request(subjects=1), settings).eraser
    result = verify(tiny_llava, made, one_person(pictures=0), sizes=FEW)
    names = {check.name for check in result.checks}
    assert "forget_answers" in names and not names & {"forget_decisions", "false_alarms"}


def test_retain_samples_of_the_caller_and_of_the_request(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    never = eraser.replace_config(threshold=NEVER)
    plain = check_of(verify(tiny_llava, never, one_person(), sizes=FEW), "retain_unchanged").n
    own = [Sample(f"What is the height of tower {i}?") for i in range(5)]
    more = check_of(verify(tiny_llava, never, one_person(), retain=own, sizes=FEW), "retain_unchanged").n
    assert more == plain + 5
    asked_before = replace(one_person(), retain=tuple(own))
    same = check_of(verify(tiny_llava, never, asked_before, retain=own, sizes=FEW), "retain_unchanged").n
    assert same == plain, "samples of the fit are not asked again"


# -- a model of one's own: others are those whom the operator knows ---------------------------------------------


OTHERS = [Sample(f"What is {number} plus two?") for number in range(60)]


def test_others_of_the_operator_take_the_place_of_the_drawn_world(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    always = eraser.replace_config(threshold=ALWAYS)
    result = verify(tiny_llava, always, one_person(), others=OTHERS, sizes=FEW)
    assert not result.passed and check_of(result, "false_alarms").value == 1.0
    near = min(FEW.neighbours * FEW.neighbour_prompts, len(OTHERS) // 4)
    assert check_of(result, "neighbours_unchanged").n == near
    assert check_of(result, "false_alarms").n == min(len(OTHERS) - near, FEW.people * FEW.prompts + FEW.general)
    assert "general_unchanged" not in {check.name for check in result.checks}


def test_few_others_are_refused(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    with pytest.raises(InputError, match="needs 40 prompts about others, and there are 39"):
        verify(tiny_llava, eraser, one_person(), others=OTHERS[:39], sizes=FEW)
