"""What studies count, on items whose figures are known."""

from __future__ import annotations

from typing import Any

import pytest

from mllmeraser.studies.scoring import AnswerCache, by_cell, outcomes, share, summary


def item(name: str, task: str, correct: bool, *, modality: str = "image", subject: str = "a") -> dict[str, Any]:
    outcome = "recalled" if correct else "unknown"
    return {"set": name, "modality": modality, "task": task, "correct": correct, "outcome": outcome,
            "subject": subject, "id": f"{name}-{task}-{subject}"}  # fmt: skip


ITEMS: list[Any] = [
    item("test", "generation", True),
    item("test", "cloze", False, subject="b"),
    item("test", "cloze", False, modality="text", subject="c"),
    item("test", "classification", True),
    item("celebrity", "generation", True),
    item("celebrity", "generation", False, subject="b"),
]


def test_recall_is_of_open_answers_and_letters_stand_beside_it() -> None:
    told = summary(ITEMS)
    assert told["recalled"]["share"] == pytest.approx(1 / 3) and told["recalled"]["n"] == 3
    assert told["letters"]["share"] == 1.0 and told["kept"]["celebrity"]["share"] == 0.5
    assert told["outcomes"] == {"recalled": 2, "unknown": 2} == outcomes(ITEMS, "test")
    assert told["recalled"]["low"] < 1 / 3 < told["recalled"]["high"]


def test_cells_are_told_apart() -> None:
    cells = by_cell(ITEMS, "test")
    assert {name: one["share"] for name, one in cells.items()} == {
        "image/generation": 1.0, "image/cloze": 0.0, "image/classification": 1.0, "text/cloze": 0.0,
    }  # fmt: skip
    assert share(ITEMS, "test", modality="text")["n"] == 1


def test_a_question_is_asked_once(tiny_llava: Any, samples: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    generate = tiny_llava.generate
    monkeypatch.setattr(tiny_llava, "generate", lambda rows, **kw: asked.append(len(rows)) or generate(rows, **kw))
    bare = AnswerCache(tiny_llava)
    first = bare.generate(samples, max_new_tokens=3)
    assert bare.generate([samples[2], samples[0]], max_new_tokens=3) == [first[2], first[0]]
    assert first == generate(samples, max_new_tokens=3) and asked == [len(samples), 0]
    assert bare.generate(samples[:1], max_new_tokens=1) != first[:1] and asked[-1] == 1
