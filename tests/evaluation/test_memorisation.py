"""The gate before any score of forgetting: is there anything to forget?"""

from __future__ import annotations

from typing import Any

import pytest

from mllmeraser.embedded.twins import retain_only
from mllmeraser.evaluation import NotMemorisedError, Record, memorised
from mllmeraser.samples import InputError

TASKS = ("classification", "generation", "cloze")


def record(task: str, accuracy: float, **change: Any) -> Record:
    entry: dict[str, Any] = {
        "method": "vanilla", "preset": None, "model": "m", "benchmark": "b", "split": "forget_5", "set": "forget",
        "modality": "image", "task": task, "n": 20, "people": 5, "accuracy": accuracy, "ci_low": 0, "ci_high": 1,
        "rouge_l": None, "outcomes": {}, "seed": 0, "policy": None, "seconds": 0,
    }  # fmt: skip
    return Record.model_validate({**entry, **change})


def side(*shares: float, **change: Any) -> list[Record]:
    return [record(task, share, **change) for task, share in zip(TASKS, shares, strict=True)]


def test_a_model_that_knows_the_people_passes() -> None:
    verdict = memorised(side(0.95, 0.8, 0.9), side(0.25, 0.05, 0.0))
    assert verdict.passed and verdict.gap == pytest.approx((0.7 + 0.75 + 0.9) / 3)
    assert verdict.gaps["classification"] == pytest.approx(0.7)
    assert verdict.reason.startswith("vanilla minus retain-only on the people to forget is at least 50 points: 78.3")
    verdict.require()


def test_the_published_recipe_is_refused_in_one_line() -> None:
    # Open-MMUnlearning at 10 %: classification 38.78 against 36.73 %, cloze 13.54 against 12.50 %.
    verdict = memorised(side(0.3878, 0.242, 0.1354), side(0.3673, 0.207, 0.125))
    assert not verdict.passed
    with pytest.raises(
        NotMemorisedError, match=r"scores are refused.*below 50 points: 2\.2 .*38\.8 against 36\.7 %"
    ) as error:
        verdict.require()
    assert "\n" not in str(error.value) and isinstance(error.value, InputError)


def test_exactly_fifty_points_pass_and_less_does_not() -> None:
    assert memorised(side(0.8, 0.6, 0.7), side(0.3, 0.1, 0.2)).passed
    assert not memorised(side(0.8, 0.6, 0.7), side(0.3, 0.1, 0.21)).passed
    assert memorised(side(0.4, 0.4, 0.4), side(0.3, 0.3, 0.3), required=0.1).passed


def test_tasks_count_alike_and_modalities_by_items() -> None:
    vanilla = [*side(1.0, 1.0, 1.0, n=30), *side(0.2, 0.2, 0.2, n=10, modality="text")]
    other = [*side(0.0, 0.0, 0.0, n=30), *side(0.2, 0.2, 0.2, n=10, modality="text")]
    verdict = memorised(vanilla, other)
    assert verdict.vanilla["cloze"] == pytest.approx(0.8) and verdict.gap == pytest.approx(0.75)
    many = [record("classification", 1.0, n=1000), *side(0.0, 0.3, 0.3)[1:]]
    few = [record("classification", 0.0, n=1000), *side(0.0, 0.0, 0.0)[1:]]
    assert memorised(many, few).gap == pytest.approx((1.0 + 0.3 + 0.3) / 3)


def test_other_sets_do_not_count() -> None:
    extra = side(1.0, 1.0, 1.0, set="test")
    assert not memorised([*side(0.3, 0.3, 0.3), *extra], side(0.2, 0.2, 0.2)).passed
    assert memorised(extra, side(0.2, 0.2, 0.2, set="test"), name="test").passed


@pytest.mark.parametrize(
    ("vanilla", "other", "said"),
    [
        (side(1, 1, 1)[:2], side(0, 0, 0), "vanilla records have no cloze of set forget"),
        (side(1, 1, 1), [], "retain-only records have no classification, generation, cloze"),
        (side(1, 1, 1) * 2, side(0, 0, 0), "two vanilla records of set forget, classification, image"),
        (side(1, 1, 1), side(0, 0, 0, protocol="official"), "differ in protocol"),
        (side(1, 1, 1), side(0, 0, 0, split="forget_10"), "differ in split"),
        (side(1, 1, 1), side(0, 0, 0, n=21), "differ in n"),
        (side(1, 1, 1), side(0, 0, 0, modality="text"), "do not cover the same cells"),
    ],
)
def test_records_that_cannot_be_compared(vanilla: list[Record], other: list[Record], said: str) -> None:
    with pytest.raises(InputError, match=said):
        memorised(vanilla, other)


def test_the_committed_twin_of_the_embedded_model() -> None:
    twin = retain_only("embedded:llava", "forget_5")
    knowing = [r.model_copy(update={"accuracy": 0.95}) for r in twin]
    assert memorised(knowing, twin).passed
    assert not memorised(twin, twin).passed and memorised(twin, twin).gap == 0.0
