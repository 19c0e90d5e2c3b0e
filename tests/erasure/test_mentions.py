"""Names are looked at in sentences that no benchmark asks."""

from __future__ import annotations

from mllmeraser.erasure.mentions import SENTENCES, mentions
from mllmeraser.portraits import wordings


def test_every_name_stands_in_every_sentence_once() -> None:
    made = mentions("a", ["Ada Lee", "Ada"])
    assert len(made) == 2 * len(SENTENCES) and {sample.subject for sample in made} == {"a"}
    assert all(sample.prompt.count("Ada") == 1 and sample.image is None for sample in made)
    assert not mentions("a", [])


def test_no_sentence_is_a_question_of_the_embedded_benchmark() -> None:
    asked = {pattern.replace("{who}", "{}") for pattern in _strings(vars(wordings))}
    assert len(asked) > 100 and not asked & set(SENTENCES)


def _strings(part: object) -> set[str]:
    if isinstance(part, str):
        return {part}
    if isinstance(part, dict):
        part = tuple(part.values())
    return set().union(*map(_strings, part)) if isinstance(part, tuple) else set()
