"""Completing a request: views and wordings, and the shipped retain and stranger sets if the user has none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from mllmeraser.benchmarks.things import complete_things
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import default_retain, default_strangers, perception_prompts
from mllmeraser.portraits.taught import benchmark_of, world_of
from mllmeraser.samples.expansion import ExpansionSettings
from mllmeraser.samples.request import Request, Subject
from mllmeraser.samples.sample import Sample

IDENTITY_QUESTION = "Who is this?"


@dataclass(frozen=True)
class Completed:
    """A request ready for `fit`.

    Attributes:
        request: The request with views, wordings and, if necessary, the shipped sets.
        notes: One line for each addition that the user did not ask for.
        shipped: Whether the retain set and the strangers are the shipped ones.
    """

    request: Request
    notes: tuple[str, ...] = ()
    shipped: bool = False


def complete(
    request: Request,
    model: MultimodalModel | None = None,
    *,
    settings: ExpansionSettings | None = None,
    seed: int = 0,
    benchmark: str | None = None,
) -> Completed:
    """Expand the request of a user and fill in what is missing; for what is no person see `complete_things`.

    If a subject has no name, `model` (if any) is asked for the person in the pictures. If it names a person of the
    shipped world, the request includes that name, and the default retain set omits that person. `seed` is the seed of
    the default sets, which are about the world of `benchmark`, else about the one that the model was taught.
    """
    if not request.about_people:
        made, notes = complete_things(request, seed, (lambda _: True) if model is None else model.takes)
        return Completed(made, tuple(notes))
    world = world_of(benchmark or benchmark_of("" if model is None else model.name), seed)
    notes = list[str]()
    if model is not None:
        request, notes = _name_subjects(request, model, world)
    pictures = list({id(s.image): s.image for s in request.forget if s.image is not None}.values())
    faceless = [s.key for s in request.subjects if not s.names and all(sample.image is None for sample in s.samples)]
    if faceless:
        notes.append(
            f"{len(faceless)} of {len(request.subjects)} subjects have neither a picture nor a name: gates for people "
            "guess from the words of the questions. Give a name, or the kind of what is no person (kind: topic)"
        )
    completed = request.expanded(settings or ExpansionSettings(views=3))
    names = [name for subject in request.subjects for name in subject.names]
    retain, strangers = list(completed.retain), list(completed.strangers)
    if not retain:
        retain = default_retain(world, exclude=names)
        notes.append(f"no retain set: the shipped one is used ({len(retain)} prompts about other people)")
    if not strangers:
        strangers = default_strangers(world)
        notes.append(f"no strangers: the shipped set is used ({len(strangers)} prompts about unknown people)")
    retain += perception_prompts(pictures, world.stream.child("perception-of-forgotten"))
    shipped = not (completed.retain or completed.strangers)
    return Completed(replace(completed, retain=tuple(retain), strangers=tuple(strangers)), tuple(notes), shipped)


def _name_subjects(request: Request, model: MultimodalModel, world: World) -> tuple[Request, list[str]]:
    """Let the model name the subjects without a name; also return the notes."""
    known = {p.name: p for p in [*world.people, *world.celebrities]}
    subjects, named = [], 0
    for subject in request.subjects:
        name = None if subject.names else _name_in_answers(subject, model, known)
        named += name is not None
        subjects.append(subject if name is None else replace(subject, names=(name,)))
    notes = [f"the model itself names {named} unnamed subject(s): the name is forgotten too"] if named else []
    return replace(request, subjects=tuple(subjects)), notes


def _name_in_answers(subject: Subject, model: MultimodalModel, known: Collection[str]) -> str | None:
    asked = [Sample(IDENTITY_QUESTION, s.image) for s in subject.samples if s.image is not None][:3]
    if not asked:
        return None
    answers = model.generate(asked)
    return next((name for answer in answers for name in known if name in answer), None)
