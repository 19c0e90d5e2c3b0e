"""Names are looked at in sentences that no benchmark asks."""

from __future__ import annotations

from mllmeraser.erasure.fit.background_prompts import (
    NAMES,
    OPEN_QUESTIONS,
    SENTENCES,
    SHOWN,
    mentions,
    open_questions,
)
from mllmeraser.erasure.states.subject_states import asks_for
from mllmeraser.portraits import wordings
from mllmeraser.samples import Sample
from mllmeraser.studies.leaks import EVERYTHING
from tiny import picture

PICTURES = 96


def test_every_name_stands_in_every_sentence_once() -> None:
    made = mentions("a", ["Ada Lee", "Ada"])
    assert len(made) == 2 * len(SENTENCES) and {sample.subject for sample in made} == {"a"}
    assert all(sample.prompt.count("Ada") == 1 and sample.image is None for sample in made)
    assert not mentions("a", [])


def test_no_sentence_is_a_question_of_the_embedded_benchmark() -> None:
    asked = {pattern.replace("{who}", "{}") for pattern in _strings(vars(wordings))}
    assert len(asked) > 100 and not asked & {*SENTENCES, *OPEN_QUESTIONS}


def test_open_questions_are_about_every_name_and_over_faces() -> None:
    faces = [Sample("Where was this person born?", picture(i), subject=f"s{i}") for i in range(200)]
    made = open_questions(
        [*faces, Sample("Where does Ada live?", subject="x"), Sample("What is this?", picture(0))], PICTURES
    )
    named, shown = [s for s in made if s.image is None], [s for s in made if s.image is not None]
    assert len(named) == 2 * len(NAMES) and all(sum(name in s.prompt for name in NAMES) == 1 for s in named)
    assert len(shown) == PICTURES == len({s.subject for s in shown})
    assert {s.prompt for s in shown} == {
        OPEN_QUESTIONS[i % len(OPEN_QUESTIONS)].format(SHOWN[i % len(SHOWN)]) for i in range(PICTURES)
    }
    assert all(asks_for(s, ()) for s in made)


def test_no_open_question_is_one_that_is_scored() -> None:
    assert not {q.format("{who}") for q in OPEN_QUESTIONS} & set(EVERYTHING)


def _strings(part: object) -> set[str]:
    if isinstance(part, str):
        return {part}
    if isinstance(part, dict):
        part = tuple(part.values())
    return set().union(*map(_strings, part)) if isinstance(part, tuple) else set()
