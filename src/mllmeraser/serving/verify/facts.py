"""The facts that the bare model tells about a subject, and whether an answer still tells them.

A request holds no facts, so the bare model's own answers are the measure. Its *facts* about a subject are the content
words of those answers, without the words of the question and the *frame*. The frame is the words of most answers of
the kind, about any person ("They were **born** in ...").
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
"""With fewer answers of a kind there is no frame: two people may share a fact by chance."""
_NO_FACTS = frozenset(words(UNKNOWN_ANSWER)) | {"image", "picture", "photo", "unknown"}


@dataclass(frozen=True)
class AnswerPair:
    """One prompt, the answers without and with the eraser, and whether the decision acted."""

    sample: Sample
    before: str
    after: str
    fired: bool

    @property
    def same(self) -> bool:
        """Whether both answers are equal except for blanks and capitals."""
        return self.before.casefold().split() == self.after.casefold().split()

    @property
    def broken(self) -> bool:
        """Whether the eraser turned language into gibberish."""
        return gibberish(self.after) is not None and gibberish(self.before) is None

    @property
    def informative(self) -> bool:
        """Whether the bare model gave a fact that can be forgotten.

        An answer of "unknown", a refusal and gibberish tell nothing, nor does the letter of a random option.
        """
        declined = says_unknown(self.before) or says_refused(self.before)
        return self.sample.task != "classification" and not declined and gibberish(self.before) is None


def frames(others: Iterable[AnswerPair]) -> dict[str | None, frozenset[str]]:
    """For each attribute, the words in more than half of the bare model's answers about other people."""
    said: dict[str | None, list[set[str]]] = {}
    for one in others:
        if one.informative and one.sample.task == "generation":
            said.setdefault(one.sample.attribute, []).append(set(content_words(one.before)))
    return {attribute: _common(answers) for attribute, answers in said.items() if len(answers) >= LEAST_ANSWERS}


def _common(answers: Sequence[set[str]]) -> frozenset[str]:
    counts = Counter(word for answer in answers for word in answer)
    return frozenset(word for word, n in counts.items() if 2 * n > len(answers))


def facts(about: Iterable[AnswerPair], frame: Mapping[str | None, frozenset[str]]) -> dict[str, frozenset[str]]:
    """For each subject, the words of the facts that the bare model gave."""
    by_subject: dict[str, frozenset[str]] = {}
    for one in about:
        if one.informative:
            new = set(content_words(one.before)) - set(words(one.sample.prompt)) - _NO_FACTS
            new -= frame.get(one.sample.attribute, frozenset())
            subject = one.sample.subject or ""
            by_subject[subject] = by_subject.get(subject, frozenset()) | new
    return by_subject


def forgotten(one: AnswerPair, known: Mapping[str, frozenset[str]]) -> bool:
    """Whether the answer differs from the bare model's and repeats none of its facts about the subject."""
    repeated = set(content_words(one.after)) - set(words(one.sample.prompt))
    return not one.same and not repeated & known.get(one.sample.subject or "", frozenset())
