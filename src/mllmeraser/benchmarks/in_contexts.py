"""Prompts of a request about things in conversations, so that a fit and its threshold see those too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mllmeraser.knowledge.countries import Country
from mllmeraser.knowledge.famous import Famous
from mllmeraser.knowledge.known import KNOWN, Known, wordings
from mllmeraser.knowledge.surroundings import NOT_KNOWN, Nearby, pointed, surrounded
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import fill
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject

SHARE = 0.5
"""Of the prompts that are also asked in a conversation."""
POINTED = 40
"""Things that stay and that questions point at."""
POINTERS = {True: ("that country", "this country"), False: ("that person", "this person")}
"""By whether it is a country."""


def forget_in_contexts(subject: Subject, known: Known | None, retain: Sequence[Sample], draw: Stream) -> Subject:
    """The subject, also asked for in conversations about other things, and after it was not answered."""
    gone = _not_known([subject], draw, 6)
    near = Nearby([*_told(retain), *gone], [one.name for one in KNOWN if one != known])
    added = [surrounded(sample, near, draw) for sample in subject.samples if draw.chance(SHARE)]
    if isinstance(known, Country | Famous):
        asked = {sample.attribute for sample in subject.samples}
        added += [replace(s, subject=subject.key) for s in _pointed(known, draw) if s.attribute in asked]
    return replace(subject, samples=(*subject.samples, *added))


def retain_in_contexts(
    retain: Sequence[Sample], subjects: Sequence[Subject], meant: Sequence[Known], draw: Stream, *, shipped: bool
) -> list[Sample]:
    """Retain prompts in conversations. In some of them a subject was named or asked for before.

    With the `shipped` retain set, questions that point at other things are added.
    """
    gone, told = _not_known(subjects, draw, 12), _told(retain)
    others = [one for one in KNOWN if one not in meant]
    pointable = [one for one in others if isinstance(one, Country | Famous)]
    near = Nearby([*draw.sample(told, min(len(told), 3 * len(gone))), *gone], [one.name for one in others])
    named = [name for subject in subjects for name in subject.names]
    passing = Nearby(near.questions, [*named, *draw.sample(near.names, 3)])
    added = [
        surrounded(sample, passing if named and draw.chance(0.3) else near, draw)
        for sample in retain
        if draw.chance(SHARE)
    ]
    if not shipped:
        return added
    pointing = [s for one in draw.sample(pointable, min(len(pointable), POINTED)) for s in _pointed(one, draw)]
    return [*added, *draw.sample(pointing, min(len(pointing), 3 * POINTED))]


def _pointed(known: Country | Famous, draw: Stream) -> Iterator[Sample]:
    """Every training wording about it, with a pointer in place of the name."""
    for attribute, pools in wordings(known).items():
        for text in pools["train"]:
            question = fill(text, draw.choice(POINTERS[isinstance(known, Country)]))
            yield pointed(Sample(question, subject=known.key, attribute=attribute), known.name, draw)


def _not_known(subjects: Sequence[Subject], draw: Stream, most: int) -> list[tuple[str, str]]:
    """Questions for what is to be forgotten, which were not answered."""
    asked = [s.question for subject in subjects for s in subject.samples if s.image is None and not s.before]
    return [(question, draw.choice(NOT_KNOWN)) for question in draw.sample(asked, min(len(asked), most))]


def _told(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Questions for what stays, with their answers."""
    return [(s.question, f"{s.keywords[0]}.") for s in samples if s.image is None and s.keywords]
