"""One person on the shipped model: only the eraser made for them passes."""

from __future__ import annotations

import json

import pytest
from verify_kit import check_of, failed

from mllmeraser.api import erase
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import Eraser
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.request import Request
from mllmeraser.serving.verify import Sizes, Thresholds, verify

pytestmark = [pytest.mark.embedded, pytest.mark.slow]
SOME = Sizes(forget=42, people=24, prompts=2, neighbours=4, neighbour_prompts=4, general=32, perception=16)


@pytest.fixture(scope="module")
def people() -> list[Request]:
    request = forget_request(load_benchmark(BENCHMARK), "forget_5", 0)
    return [Request((subject,)) for subject in request.subjects[:2]]


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    return load_model("embedded:llava")


@pytest.fixture(scope="module")
def eraser(model: MultimodalModel, people: list[Request]) -> Eraser:
    return erase(model, people[0])


def test_a_good_eraser_passes(model: MultimodalModel, eraser: Eraser, people: list[Request]) -> None:
    result = verify(model, eraser, people[0])
    assert result.passed, failed(result)
    assert check_of(result, "forget_answers").n >= 40 and check_of(result, "false_alarms").high <= 0.05
    name = people[0].subjects[0].names[0]
    assert name not in json.dumps(result.as_dict())


def test_at_strength_0_it_fails(model: MultimodalModel, eraser: Eraser, people: list[Request]) -> None:
    result = verify(model, eraser.replace_config(strength=0.0), people[0], sizes=SOME)
    assert not result.passed
    n = check_of(result, "forget_answers").n
    assert failed(result) == {"forget_answers", "conversation_answers"}
    reason = check_of(result, "forget_answers").reason
    assert reason.startswith(f"0 of {n} (") and reason.endswith("; at least 0.95 is required")


def test_the_eraser_of_another_person_fails(model: MultimodalModel, eraser: Eraser, people: list[Request]) -> None:
    result = verify(model, eraser, people[1], sizes=SOME, thresholds=Thresholds(forget_decisions=0.5))
    assert not result.passed
    assert not check_of(result, "forget_decisions").passed and not check_of(result, "forget_answers").passed
    assert "at least 0.5" in check_of(result, "forget_decisions").reason
