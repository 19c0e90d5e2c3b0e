"""What the bare model tells about a subject, and whether an answer still tells it.

A request holds no facts, so the bare model's own answers are the measure. Its *facts* about a subject are the words of
those answers that carry meaning, without the words of the question and without the *frame*: words that stand in most
answers of the kind whoever is asked about ("They were **born** in ...").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mllmeraser.evaluation.gibberish import gibberish
from mllmeraser.evaluation.outcomes import says_refused, says_unknown
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.text import content_words, words

LEAST_ANSWERS = 4
"""Fewer answers of a kind have no frame: two people may share a fact by chance."""
_EMPTY = frozenset(words(UNKNOWN_ANSWER)) | {"image", "picture", "photo", "unknown"}


@dataclass(frozen=True)
class Asked:
    """One prompt with what the bare model said, what it says with the eraser, and whether the decision acted."""

    sample: Sample
    before: str
    after: str
    fired: bool

    @property
    def same(self) -> bool:
        """Whether both answers are the same but for blanks and capitals."""
        return plain(self.before) == plain(self.after)

    @property
    def broken(self) -> bool:
        """Whether the answer is no language, where the bare model's was."""
        return gibberish(self.after) is not None and gibberish(self.before) is None

    @property
    def tells(self) -> bool:
        """Whether the bare model told something that can be forgotten.

        It did not if it said that it does not know, declined, or stammered. A letter among options that were drawn at
        random tells nothing either.
        """
        declined = says_unknown(self.before) or says_refused(self.before)
        return self.sample.task != "classification" and not declined and gibberish(self.before) is None


def plain(text: str) -> str:
    """A text without differences of blanks and capitals."""
    return " ".join(text.split()).casefold()


def frames(others: Iterable[Asked]) -> dict[str | None, frozenset[str]]:
    """For each attribute the words that stand in more than half of the bare answers about other people."""
    said: dict[str | None, list[set[str]]] = {}
    for one in others:
        if one.tells and one.sample.task == "generation":
            said.setdefault(one.sample.attribute, []).append(set(content_words(one.before)))
    return {attribute: _common(answers) for attribute, answers in said.items() if len(answers) >= LEAST_ANSWERS}


def _common(answers: Sequence[set[str]]) -> frozenset[str]:
    counts = Counter(word for answer in answers for word in answer)
    return frozenset(word for word, n in counts.items() if 2 * n > len(answers))


def facts(about: Iterable[Asked], frame: Mapping[str | None, frozenset[str]]) -> dict[str, frozenset[str]]:
    """For each subject the words of the facts that the bare model gave."""
    found: dict[str, set[str]] = {}
    for one in about:
        if one.tells:
            telling = set(content_words(one.before)) - set(words(one.sample.prompt)) - _EMPTY
            telling -= frame.get(one.sample.attribute, frozenset())
            found.setdefault(one.sample.subject or "", set()).update(telling)
    return {subject: frozenset(telling) for subject, telling in found.items()}


def forgotten(one: Asked, known: Mapping[str, frozenset[str]]) -> bool:
    """Whether an answer differs from the bare model's and says none of its facts about the subject."""
    repeated = set(content_words(one.after)) - set(words(one.sample.prompt))
    return not one.same and not repeated & known.get(one.sample.subject or "", frozenset())
