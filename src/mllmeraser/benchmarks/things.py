"""Completing a request about something else than people: wordings, other subjects to retain, unknown ones.

The shipped sets are about the real world, so they suit every model that learnt it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from PIL import Image

from mllmeraser.knowledge.asking import (
    ABOUT,
    FRAMES,
    INVENTED,
    PASSING,
    SHOWN,
    WHAT_IS_SHOWN,
)
from mllmeraser.knowledge.countries import COUNTRIES, Country
from mllmeraser.knowledge.everyday import FACTS, TASKS, about_things
from mllmeraser.knowledge.famous import FAMOUS, Famous
from mllmeraser.knowledge.famous import QUESTIONS as FAMOUS_QUESTIONS
from mllmeraser.knowledge.flags import draw_flag
from mllmeraser.knowledge.wordings import COUNTRY, QUESTIONS, WHICH
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import Pools, fill
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.expansion import views
from mllmeraser.samples.hashing import hash64
from mllmeraser.samples.names import holds_name
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject

VIEWS = 4
GENERAL = 150
Known = Country | Famous
KNOWN: tuple[Known, ...] = (*COUNTRIES, *FAMOUS)


def complete_things(request: Request, seed: int = 0) -> tuple[Request, list[str]]:
    """The request with wordings, and with the shipped sets where it has none; and a line for each set added.

    Raises:
        InputError: A fact of a subject unknown to the shipped sets, without retain prompts about the same subject.
    """
    kinds = ", ".join(dict.fromkeys(subject.kind for subject in request.subjects))
    stream, notes = Stream("things", seed), [f"no people but {kinds}: decided from what the model has worked out"]
    subjects = tuple(_expanded(subject, stream.child("ask", subject.key)) for subject in request.subjects)
    retain, strangers = list(request.retain), list(request.strangers)
    for subject in subjects:
        _require_neighbours(subject, request.retain)
    if not retain:
        retain = default_retain(subjects, stream.child("retain"))
        notes.append(f"no retain set: the shipped one is used ({len(retain)} prompts about other things)")
    if not strangers:
        strangers = [Sample(text.format(x=name)) for name in INVENTED for text in ABOUT["entity"][:6]]
        notes.append(f"no strangers: invented names are used ({len(strangers)} prompts)")
    return replace(request, subjects=subjects, retain=tuple(retain), strangers=tuple(strangers)), notes


def default_retain(subjects: Sequence[Subject], stream: Stream) -> list[Sample]:
    """Questions about other countries and people, about everything, and ones that name a subject in passing.

    With pictures in the request, flags too. For a fact, all other facts of its subject.
    """
    gone = [name for subject in subjects for name in subject.names]
    known = [one for one in KNOWN if not any(holds_name(one.name, name) for name in gone)]
    others = [sample for one in known for sample in _asked(one, stream.child(one.key))]
    everyday = [*FACTS, *TASKS, *islice(about_things(stream.child("things")), GENERAL)]
    others += [Sample(text, attribute="general") for text in dict.fromkeys(everyday)]
    if any(sample.image is not None for subject in subjects for sample in subject.samples):
        others += _flags([one for one in known if isinstance(one, Country)], stream.child("flags"))
    samples = [sample for sample in others if not _about(sample, gone)]
    for subject in subjects:
        samples += _other_facts(subject)
        for name in subject.names:
            draw = stream.child("passing", name)
            passing = [text.format(x=name, question=draw.choice(FACTS)) for text in PASSING]
            samples += [Sample(text, attribute="general") for text in passing]
    wanted = {sample.question for subject in subjects for sample in subject.samples if sample.image is None}
    return [sample for sample in samples if sample.question not in wanted]


def _asked(known: Known, stream: Stream) -> Iterator[Sample]:
    for attribute, pools in _wordings(known).items():
        value = known.facts[attribute]
        keywords = (value,) if isinstance(value, str) else value
        text = fill(stream.choice(pools["train"]), known.name)
        yield Sample(text, keywords=keywords, subject=known.key, attribute=attribute)


def _other_facts(subject: Subject) -> list[Sample]:
    """All training questions for the facts of a known subject that are not the one to forget."""
    known = _known(subject)
    if subject.kind != "fact" or known is None:
        return []
    asked = {sample.attribute for sample in subject.samples} | _attributes(known, subject)
    return [
        Sample(fill(text, known.name), subject=known.key, attribute=attribute)
        for attribute, pools in _wordings(known).items()
        if attribute not in asked
        for text in pools["train"]
    ]


def _flags(countries: Sequence[Country], stream: Stream) -> list[Sample]:
    samples = []
    for country in countries:
        picture = Image.fromarray(draw_flag(country.key, stream.child(country.key)))
        attribute = stream.choice(tuple(QUESTIONS))
        text = fill(stream.choice(QUESTIONS[attribute]["train"]), stream.choice(WHICH["train"]))
        for question in (stream.choice(COUNTRY["train"]), text):
            samples.append(Sample(question, picture, subject=country.key, attribute=attribute))
    return samples


def _expanded(subject: Subject, stream: Stream) -> Subject:
    """The subject's own questions in many frames, shipped wordings about its names, and views of its pictures."""
    samples, known = list(subject.samples), _known(subject)
    own = [s.question for s in subject.samples if s.image is None]
    samples += [Sample(frame.format(q=q), subject=subject.key) for q in own for frame in FRAMES]
    if subject.kind != "fact":
        about = ABOUT["entity" if subject.kind == "entity" else "topic"]
        samples += [Sample(text.format(x=name), subject=subject.key) for name in subject.names for text in about]
    if known is not None:
        wanted = _attributes(known, subject) if subject.kind == "fact" else set(_wordings(known))
        samples += [
            Sample(fill(text, known.name), subject=subject.key, attribute=attribute)
            for attribute, pools in _wordings(known).items()
            if attribute in wanted
            for text in pools["train"]
        ]
    samples += _pictured(subject, known, stream)
    distinct = {(s.question, id(s.image) if s.image is not None else None): s for s in samples}
    return replace(subject, samples=tuple(distinct.values()))


def _pictured(subject: Subject, known: Known | None, stream: Stream) -> Iterator[Sample]:
    """Questions over views of every picture."""
    shown = [s for s in subject.samples if s.image is not None]
    asked = [text.format(x=form) for text in WHAT_IS_SHOWN for form in SHOWN]
    if isinstance(known, Country):
        over = [fill(text, who) for pools in QUESTIONS.values() for text in pools["train"] for who in WHICH["train"]]
        asked = [*COUNTRY["train"], *over]
    pictures = {id(s.image): s.image for s in shown if s.image is not None}
    for number, image in enumerate(pictures.values()):
        for view in views(image, VIEWS, hash64("thing", subject.key, number)):
            for question in stream.sample(asked, min(6, len(asked))):
                yield Sample(question, view, subject=subject.key)


def _known(subject: Subject) -> Known | None:
    """The shipped country or person of this name."""
    words = {name.casefold().removeprefix("the ") for name in subject.names}
    return next((k for k in KNOWN if k.name.casefold().removeprefix("the ") in words), None)


def _attributes(known: Known, subject: Subject) -> set[str]:
    """The attributes that a subject's own questions ask for."""
    own = {sample.question.casefold() for sample in subject.samples}
    return {
        attribute
        for attribute, pools in _wordings(known).items()
        for texts in pools.values()
        for text in texts
        if fill(text, known.name).casefold() in own
    }


def _wordings(known: Known) -> Mapping[str, Pools]:
    return QUESTIONS if isinstance(known, Country) else FAMOUS_QUESTIONS


def _about(sample: Sample, names: Sequence[str]) -> bool:
    """Whether a name is in the question or in the answer."""
    return any(holds_name(text, name) for text in (sample.question, *sample.keywords) for name in names)


def _require_neighbours(subject: Subject, retain: Sequence[Sample]) -> None:
    if subject.kind != "fact" or _known(subject) is not None:
        return
    if not any(holds_name(sample.question, name) for sample in retain for name in subject.names):
        raise InputError(
            f"subject {subject.key}: to forget one fact of it, give retain prompts that ask for its other facts"
        )
