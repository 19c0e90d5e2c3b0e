"""Verification prompts for a request about what is no person, in wordings that no fit contains.

Facts of countries and famous people are asked for in the pools `validation` and `test`, of which a fit uses neither.
Names are asked about in the wordings `FRESH_...`, and pictures are shown in fresh views. A question of the request
itself is in the fit, so it is never asked without a fresh view. Where nothing fresh can be asked, nothing is verified.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from mllmeraser.benchmarks.things import (
    complete_things,
    known_subject,
    names_meant,
    others_than,
    speaks_of,
    wanted_facts,
)
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.knowledge.asking import FRESH_ABOUT, FRESH_FORMS, FRESH_FRAMES, FRESH_PASSING, FRESH_SHOWN
from mllmeraser.knowledge.countries import Country
from mllmeraser.knowledge.everyday import THINGS
from mllmeraser.knowledge.flags import draw_flag
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.known import Known, wordings
from mllmeraser.knowledge.wordings import COUNTRY, QUESTIONS, WHICH
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.taught import world_taught
from mllmeraser.portraits.wordings import Pool, fill
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.names import holds_name
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.verify import fresh_prompts as fresh

POOLS: tuple[Pool, ...] = ("validation", "test")
ABOUT = "about"
"""Attribute of the prompts that ask about a subject as a whole."""


@dataclass(frozen=True)
class _Other:
    """A subject to keep: one of the shipped ones, or a thing that the shipped sets know by its name alone."""

    name: str
    known: Known | None = None


def thing_prompts(
    model: MultimodalModel, eraser: Eraser, request: Request, seed: int, sizes: fresh.Sizes, progress: Progress | None
) -> dict[str, list[Sample]]:
    """Prompts by group, as of `prompts_by_group`, without those of the completed request.

    Raises:
        InputError: Every question about a subject is in the fit, so that no fresh one is left.
    """
    stream, subjects = Stream("verification", seed, "things"), request.subjects
    completed, _ = complete_things(request, takes=model.takes)
    seen = {s.digest() for s in (*completed.forget, *completed.retain, *completed.strangers)}
    share = max(sizes.least, sizes.forget // len(subjects))
    forget = [s for subject in subjects for s in about_thing(subject, seed, share, seen)]
    pictured = any(sample.image is not None for sample in request.forget)
    others = _Others(subjects, stream, pictured)
    near = others.nearest(model, eraser, sizes.neighbours, progress)
    some = stream.child("some").shuffle(others.all)[: sizes.people]
    groups = {
        "forget": forget,
        "rest": [s for subject in subjects for s in other_facts(subject)],
        "neighbours": [*others.ask(near, "near", sizes.neighbour_prompts), *_passing(subjects, stream)],
        "retain": [*others.ask(some, "retain", sizes.prompts), *_people(model, subjects, stream, sizes)],
        "general": _general(subjects, stream, sizes.general),
        "perception": list[Sample](),
    }
    return {name: fresh.unseen(samples, seen) for name, samples in groups.items()}


def about_thing(subject: Subject, seed: int, n: int, seen: Collection[str] = ()) -> list[Sample]:
    """At most `n` fresh prompts about a subject, in text and over views of its pictures.

    Raises:
        InputError: It is asked for in text, or has pictures, and there is no fresh prompt of that sort outside `seen`.
    """
    stream, known = Stream("verification", seed, "thing", subject.key), known_subject(subject)
    views = fresh.subject_views([subject], seed, n)
    by_text = bool(subject.names) or any(sample.image is None for sample in subject.samples)
    texts = _in_text(subject, known) if by_text else []
    named = fresh.unseen(_framed(stream.child("text").shuffle(texts)), seen)
    shown = fresh.unseen(_over_views(subject, known, views, stream.child("views")), seen)
    if (by_text and not named) or (views and not shown):
        raise InputError(
            f"subject {subject.key}: it cannot be verified, for the fit contains every question about it: give a "
            "name, or ask as in `What is the capital of NAME?`"
        )
    pictured = min(len(shown), n // 2 if named else n)
    chosen = [*named[: n - pictured], *shown[:pictured]]
    return [replace(s, subject=subject.key, id=f"{subject.key}/fresh/{i}") for i, s in enumerate(chosen)]


def other_facts(subject: Subject) -> list[Sample]:
    """Fresh questions for the facts of a known subject that are not the one to forget."""
    known = known_subject(subject)
    if subject.kind != "fact" or known is None:
        return []
    kept = set(wordings(known)) - wanted_facts(subject, known)
    return [replace(s, subject=known.key) for s in _for_facts(known, kept, (known.name,))]


def _in_text(subject: Subject, known: Known | None) -> list[Sample]:
    """Fresh questions in text: for the facts to forget, and of all but a fact about its names."""
    samples = []
    if known is not None:
        names = tuple(dict.fromkeys((known.name, *subject.names)))
        samples += _for_facts(known, wanted_facts(subject, known), names)
    if subject.kind != "fact":
        about = FRESH_ABOUT["entity" if subject.kind == "entity" else "topic"]
        samples += [Sample(text.format(x=name), attribute=ABOUT) for name in subject.names for text in about]
    return samples


def _for_facts(known: Known, attributes: Collection[str], names: Iterable[str]) -> list[Sample]:
    return [
        Sample(fill(text, name), keywords=_values(known, attribute), attribute=attribute)
        for name in names
        for attribute, pools in wordings(known).items()
        if attribute in attributes
        for pool in POOLS
        for text in pools[pool]
    ]


def _values(known: Known, attribute: str) -> tuple[str, ...]:
    value = known.facts[attribute]
    return (value,) if isinstance(value, str) else value


def _framed(samples: Sequence[Sample]) -> list[Sample]:
    """The questions as they are, then each in the frames that no fit uses."""
    return [replace(s, question=frame.format(q=s.question)) for frame in FRESH_FRAMES for s in samples]


def _over_views(subject: Subject, known: Known | None, views: Sequence[Image.Image], stream: Stream) -> list[Sample]:
    """One question over each view: fresh ones, or of a fact without such its own."""
    if isinstance(known, Country):
        texts = _of_flags(wanted_facts(subject, known), named=subject.kind != "fact")
    elif subject.kind != "fact":
        texts = [(ABOUT, text.format(x=form)) for text in FRESH_SHOWN for form in FRESH_FORMS]
    else:
        texts = [("", s.question) for s in subject.samples if s.image is not None]
    order = stream.shuffle(texts)
    chosen = [order[i % len(order)] for i in range(len(views))]
    return [Sample(text, view, attribute=a or None) for (a, text), view in zip(chosen, views, strict=True)]


def _of_flags(attributes: Collection[str], *, named: bool) -> list[tuple[str, str]]:
    """Attributes and questions over a flag; `named`: also which country it is of."""
    texts = [
        (attribute, fill(text, who))
        for attribute in QUESTIONS
        if attribute in attributes
        for text in QUESTIONS[attribute]["test"]
        for who in WHICH["test"]
    ]
    return [*texts, *((ABOUT, text) for text in COUNTRY["test"] if named)]


class _Others:
    """What has to stay: the shipped subjects and things that the request does not mean."""

    def __init__(self, subjects: Sequence[Subject], stream: Stream, pictured: bool) -> None:
        self._gone, self._stream, self._pictured = names_meant(subjects), stream, pictured
        self._facts = _facts_alone(subjects)
        shipped = (_Other(one.name, one) for one in others_than(subjects))
        others = (*shipped, *(_Other(name) for name in THINGS))
        self.all = [other for other in others if not any(holds_name(other.name, gone) for gone in self._gone)]

    def nearest(self, model: MultimodalModel, eraser: Eraser, n: int, progress: Progress | None) -> list[_Other]:
        """The `n` others that the eraser is most likely to take for its subjects, by one prompt about each."""
        prompts = [self._prompts(other, self._stream.child("near", other.name), self._facts)[0] for other in self.all]
        scores = read_gate(model, eraser, prompts, progress=progress).pooled
        return [self.all[row] for row in scores.argsort(descending=True)[:n].tolist()]

    def ask(self, others: Sequence[_Other], purpose: str, n: int) -> list[Sample]:
        """`n` prompts about each; near ones are asked for the facts of the request first."""
        facts = self._facts if purpose == "near" else frozenset[str]()
        return [s for o in others for s in self._prompts(o, self._stream.child(purpose, o.name), facts)[:n]]

    def _prompts(self, other: _Other, stream: Stream, first: Collection[str]) -> list[Sample]:
        """All fresh prompts about one, shuffled; those for the attributes `first` come first."""
        about = FRESH_ABOUT["topic" if other.known is None else "entity"]
        samples = [Sample(text.format(x=other.name), attribute=ABOUT) for text in about]
        if other.known is not None:
            samples += _for_facts(other.known, wordings(other.known), (other.name,))
        if self._pictured and isinstance(other.known, Country):
            flag = Image.fromarray(draw_flag(other.known.key, stream.child("flag")))
            facts = _of_flags(QUESTIONS, named=True)
            samples += [Sample(text, flag, attribute=a) for a, text in stream.child("over").sample(facts, 12)]
        kept = [replace(s, subject=other.name) for s in stream.shuffle(samples) if not speaks_of(s, self._gone)]
        return sorted(kept, key=lambda s: s.attribute not in first)


def _facts_alone(subjects: Sequence[Subject]) -> frozenset[str]:
    """The attributes of a request about facts; empty if it is about whole subjects too."""
    if any(subject.kind != "fact" for subject in subjects):
        return frozenset()
    known = [(subject, known_subject(subject)) for subject in subjects]
    return frozenset(attribute for s, one in known if one is not None for attribute in wanted_facts(s, one))


def _passing(subjects: Sequence[Subject], stream: Stream) -> list[Sample]:
    """Questions about something else, with a name of a subject in passing."""
    asked = [sample.question for sample in _general(subjects, stream.child("passing"), len(FRESH_PASSING))]
    names = [name for subject in subjects for name in subject.names]
    return [
        Sample(text.format(x=name, question=question), attribute="general")
        for name in names[:8]
        for text, question in zip(FRESH_PASSING, asked, strict=True)
    ]


def _people(model: MultimodalModel, subjects: Sequence[Subject], stream: Stream, sizes: fresh.Sizes) -> list[Sample]:
    """Prompts about drawn people: a picture of each, and the name."""
    people = fresh.known_people(world_taught(model.name), names_meant(subjects))
    some = stream.child("people").shuffle(people)[: sizes.people // 2]
    return [s for person in some for s in fresh.person_prompts(person, stream.child("person", person.key), 2)]


def _general(subjects: Sequence[Subject], stream: Stream, n: int) -> list[Sample]:
    """Questions about the world that no fit contains and no name of the subjects answers."""
    gone = names_meant(subjects)
    return stream.child("general").shuffle([s for s in world_questions() if not speaks_of(s, gone)])[:n]
