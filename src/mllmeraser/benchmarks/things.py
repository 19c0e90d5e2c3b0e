"""Completing a request about something else than people: wordings, other subjects to retain, unknown ones.

The shipped sets are about the real world, so they suit every model that learnt it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from mllmeraser.benchmarks.in_contexts import forget_in_contexts, retain_in_contexts
from mllmeraser.benchmarks.shown import VIEWS, flags, require_pictures, scene_prompts, scenes
from mllmeraser.knowledge.asking import ABOUT, INVENTED, PASSING, SHOWN, WHAT_IS_SHOWN
from mllmeraser.knowledge.concepts import Concept
from mllmeraser.knowledge.countries import Country
from mllmeraser.knowledge.everyday import FACTS, TASKS, about_things
from mllmeraser.knowledge.known import KNOWN, Known, asked_for, find, names_of, wordings
from mllmeraser.knowledge.wordings import COUNTRY, WHICH
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import fill
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.expansion import views
from mllmeraser.samples.frames import framed
from mllmeraser.samples.hashing import hash64
from mllmeraser.samples.names import holds_name, names_somebody
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject

GENERAL = 150


def complete_things(
    request: Request, seed: int = 0, takes: Callable[[Sample], bool] = lambda _: True
) -> tuple[Request, list[str]]:
    """The request with wordings and contexts, and with the shipped sets where it has none; a line for each set added.

    `takes` tells whether the chat format of the model can express a sample.

    Raises:
        InputError: The shipped sets cannot tell what to retain: a fact that they do not know, a subject without a name,
            or pictures of something that they do not show. The message says what to give.
    """
    kinds = ", ".join(dict.fromkeys(subject.kind for subject in request.subjects))
    stream, notes = Stream("things", seed), [f"no people but {kinds}: decided from what the model has worked out"]
    known = {subject.key: known_subject(subject) for subject in request.subjects}
    notes.append(f"the shipped sets know {sum(map(bool, known.values()))} of {len(known)} subjects")
    retain, strangers = list(request.retain), list(request.strangers)
    for subject in request.subjects:
        _require_neighbours(subject, known[subject.key], retain)
        require_pictures(subject, known[subject.key], retain)
    subjects = tuple(_expanded(s, known[s.key], stream.child("ask", s.key)) for s in request.subjects)
    if not retain:
        retain = default_retain(subjects, stream.child("retain"))
        notes.append(f"no retain set: the shipped one is used ({len(retain)} prompts about other things)")
    facts = [sample for subject in request.subjects for sample in _other_facts(subject, known[subject.key])]
    if facts:
        notes.append(f"{len(facts)} prompts for other facts of the same subject are retained")
    if not strangers:
        strangers = [Sample(text.format(x=name)) for name in INVENTED for text in ABOUT["entity"][:6]]
        notes.append(f"no strangers: invented names are used ({len(strangers)} prompts)")
    wanted = {sample.question for subject in subjects for sample in subject.samples if sample.image is None}
    kept = [sample for sample in (*retain, *facts) if sample.image is not None or sample.question not in wanted]
    whole = replace(request, subjects=subjects, retain=tuple(retain), strangers=tuple(strangers))
    whole.validate()  # a prompt of the user's on both sides is an error; one of ours is left out
    shipped = not request.retain
    return _in_contexts(replace(whole, retain=tuple(kept)), known, stream, takes, shipped), notes


def _in_contexts(
    request: Request, known: Mapping[str, Known | None], stream: Stream, takes: Callable[[Sample], bool], shipped: bool
) -> Request:
    """The request with its prompts in conversations too."""
    meant = [one for one in known.values() if one is not None]
    subjects = [
        forget_in_contexts(subject, known[subject.key], request.retain, stream.child("in contexts", subject.key))
        for subject in request.subjects
    ]
    subjects = [replace(one, samples=tuple(s for s in one.samples if not s.before or takes(s))) for one in subjects]
    added = retain_in_contexts(request.retain, request.subjects, meant, stream.child("in contexts"), shipped=shipped)
    retain = (*request.retain, *(sample for sample in added if not sample.before or takes(sample)))
    return replace(request, subjects=tuple(subjects), retain=retain)


def default_retain(subjects: Sequence[Subject], stream: Stream) -> list[Sample]:
    """Questions about other countries, people and topics, about everything, and ones that name a subject in passing.

    With pictures in the request, flags too; for scene concepts, questions about drawn scenes that concern none of them.
    """
    others = others_than(subjects)
    gone = [name.removeprefix("the ") for name in names_meant(subjects)]
    samples = [sample for one in others for sample in _asked(one, stream.child(one.key))]
    pictured = [s for s in subjects if any(sample.image is not None for sample in s.samples)]
    concepts = [known for s in pictured if isinstance(known := find(s.names), Concept)]
    if concepts:
        samples += scenes(concepts, stream.child("scenes"))
    if len(concepts) < len(pictured):
        samples += flags([one for one in others if isinstance(one, Country)], stream.child("flags"))
    samples = [sample for sample in samples if not speaks_of(sample, gone)]
    things = islice(about_things(stream.child("things")), GENERAL)
    everyday = [text for text in dict.fromkeys((*FACTS, *TASKS, *things)) if not names_somebody(text, gone)]
    samples += [Sample(text, attribute="general") for text in everyday]
    facts = [text for text in FACTS if text in everyday]
    for name in (name for subject in subjects for name in subject.names):
        draw = stream.child("passing", name)
        passing = [text.format(x=name, question=draw.choice(facts)) for text in PASSING]
        samples += [Sample(text, attribute="general") for text in passing]
    wanted = {sample.question for subject in subjects for sample in subject.samples if sample.image is None}
    return [sample for sample in samples if sample.question not in wanted]


def names_meant(subjects: Iterable[Subject]) -> list[str]:
    """All names of the subjects: those of the request, and those of the shipped subjects that they mean."""
    meant = [(subject.names, find(subject.names)) for subject in subjects]
    return [name for names, known in meant for name in (*names, *(() if known is None else names_of(known)))]


def others_than(subjects: Iterable[Subject]) -> list[Known]:
    """The shipped subjects that the request does not mean."""
    meant = [find(subject.names) for subject in subjects]
    return [one for one in KNOWN if one not in meant]


def known_subject(subject: Subject) -> Known | None:
    """The shipped subject that is meant; None for a fact that none of the shipped wordings asks for."""
    known = find(subject.names)
    return known if known is None or subject.kind != "fact" or wanted_facts(subject, known) else None


def wanted_facts(subject: Subject, known: Known) -> set[str]:
    """The facts to forget: of a fact those that its questions ask for, else all."""
    if subject.kind != "fact":
        return set(wordings(known))
    return asked_for(known, (sample.question for sample in subject.samples))


def _asked(known: Known, stream: Stream) -> Iterator[Sample]:
    for attribute, pools in wordings(known).items():
        value = known.facts[attribute]
        keywords = (value,) if isinstance(value, str) else value
        text = fill(stream.choice(pools["train"]), known.name)
        yield Sample(text, keywords=keywords, subject=known.key, attribute=attribute)


def _other_facts(subject: Subject, known: Known | None) -> list[Sample]:
    """All training questions for the facts of a known subject that are not the one to forget."""
    if subject.kind != "fact" or known is None:
        return []
    kept = set(wordings(known)) - wanted_facts(subject, known)
    return [Sample(text, subject=known.key, attribute=a) for a, text in _training(known, kept, known.name)]


def _training(known: Known, attributes: set[str], *who: str) -> Iterator[tuple[str, str]]:
    """Attribute and question, in every training wording."""
    for attribute, pools in wordings(known).items():
        if attribute in attributes:
            yield from ((attribute, fill(text, name)) for text in pools["train"] for name in who)


def _expanded(subject: Subject, known: Known | None, stream: Stream) -> Subject:
    """The subject's own questions in many frames, shipped wordings about its names, and views of its pictures."""
    key, samples = subject.key, list(subject.samples)
    samples += [Sample(text, subject=key) for s in subject.samples if s.image is None for text in framed(s.question)]
    if subject.kind != "fact":
        about = ABOUT["entity" if subject.kind == "entity" else "topic"]
        samples += [Sample(text.format(x=name), subject=key) for name in subject.names for text in about]
    if known is not None:
        asked = _training(known, wanted_facts(subject, known), known.name)
        samples += [Sample(text, subject=key, attribute=attribute) for attribute, text in asked]
    samples += (
        scene_prompts(subject, known, stream) if isinstance(known, Concept) else _pictured(subject, known, stream)
    )
    distinct = {(s.question, id(s.image) if s.image is not None else None): s for s in samples}
    return replace(subject, samples=tuple(distinct.values()))


def _pictured(subject: Subject, known: Known | None, stream: Stream) -> Iterator[Sample]:
    """Questions over views of every picture; for a fact those that ask for it alone."""
    shown = [sample for sample in subject.samples if sample.image is not None]
    asked = [text for sample in shown for text in framed(sample.question)]
    if isinstance(known, Country):
        asked += [text for _, text in _training(known, wanted_facts(subject, known), *WHICH["train"])]
        asked += COUNTRY["train"] if subject.kind != "fact" else ()
    elif subject.kind != "fact":
        asked += [text.format(x=form) for text in WHAT_IS_SHOWN for form in SHOWN]
    for number, image in enumerate({id(s.image): s.image for s in shown if s.image is not None}.values()):
        for view in views(image, VIEWS, hash64("thing", subject.key, number)):
            for question in stream.sample(asked, min(6, len(asked))):
                yield Sample(question, view, subject=subject.key)


def speaks_of(sample: Sample, names: Sequence[str]) -> bool:
    """Whether a name is in the question or in the answer."""
    return any(holds_name(text, name) for text in (sample.question, *sample.keywords) for name in names)


def _require_neighbours(subject: Subject, known: Known | None, retain: Sequence[Sample]) -> None:
    names = subject.names
    if subject.kind != "fact" and not names and not retain:
        raise InputError(
            f"subject {subject.key}: without a name, the shipped retain set may hold what is to be forgotten: give its "
            "name, or retain prompts (--retain)"
        )
    if subject.kind != "fact" or known is not None:
        return
    if not any(holds_name(sample.question, name) for sample in retain for name in names) and (names or not retain):
        raise InputError(
            f"subject {subject.key}: no shipped question asks for this fact: give retain prompts that ask for other "
            "facts of the same subject, or ask as in `What is the capital of NAME?`"
        )
