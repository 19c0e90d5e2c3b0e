"""The study of a direction for models that were never taught "I do not know"."""

from __future__ import annotations

import pytest

from mllmeraser.knowledge.capabilities import capabilities
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import InputError
from mllmeraser.studies import capability


def test_every_pair_is_two_different_questions_and_none_is_scored() -> None:
    asked = [sample.question for pair in capabilities() for sample in pair]
    assert len(asked) == 2 * 32
    assert len(set(asked)) == len(asked)
    assert not set(asked) & {sample.question for sample in world_questions()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but as a text-based AI I don't have eyes.", True),
        ("As an AI language model, that is not something to say.", True),
        ("I cannot see your pocket.", True),
        ("A pocket is for small things.", False),
        ("As an animal of the sea, it swims.", False),
    ],
)
def test_what_counts_as_declined(text: str, expected: bool) -> None:
    assert capability.declines(text) is expected


def test_only_pairs_that_the_model_itself_tells_apart_count(
    tiny_llava: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ["I cannot do that.", "Yes."] * len(capabilities())
    told[0], told[3] = "Toast.", "I cannot do that either."
    monkeypatch.setattr(MultimodalModel, "generate", lambda self, samples, **_: told[: len(samples)])
    contrast = capability.declined(tiny_llava)
    assert [sample.id for sample in contrast.recall] == [f"cannot/{number}" for number in range(2, 32)]
    assert len(contrast.benign) == len(contrast.recall)
    monkeypatch.setattr(MultimodalModel, "generate", lambda self, samples, **_: ["Yes."] * len(samples))
    with pytest.raises(InputError, match="declines 0 of 32"):
        capability.declined(tiny_llava)


def test_the_chosen_point_keeps_the_others() -> None:
    def entry(far: tuple[int, int], near: tuple[int, int]) -> dict:
        points = {"far": far, "near": near}
        return {"known": {"forget": 10, "general": 100}} | {
            name: {"forget": {"right": left}, "general": {"right": kept}} for name, (left, kept) in points.items()
        }

    assert capability.best([entry((4, 100), (0, 60))]) == "far"
    assert capability.best([entry((4, 100), (2, 99))]) == "near"
    assert capability.best([entry((4, 90), (2, 80))]) == "far"
