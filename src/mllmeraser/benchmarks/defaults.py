"""Completing a request: views and wordings, and the shipped retain and stranger sets where the user gave none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from PIL import Image

from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import default_retain, default_strangers, perception_prompts
from mllmeraser.samples.expansion import ExpansionSettings
from mllmeraser.samples.request import Request, Subject
from mllmeraser.samples.sample import Sample

IDENTITY_QUESTION = "Who is this?"


@dataclass(frozen=True)
class Completed:
    """A request ready for ``fit``.

    Attributes:
        request: With views, wordings and the shipped sets where the user gave none.
        notes: One line for everything that was added without being asked for.
        shipped: Whether all that is retained, and all strangers, are the shipped ones.
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
) -> Completed:
    """Expand a request and fill in what is missing.

    Without a name, ``model`` is asked who the pictures show: if it tells somebody of the shipped world, the name is
    forgotten too, and the default retain set leaves that person out.

    Args:
        request: As the user wrote it.
        model: The model that is to forget; None leaves names as they are.
        settings: Of the expansion.
        seed: Of the default sets.
    """
    world, notes = World("dev", seed), []
    if model is not None:
        request, told = _name_subjects(request, model, world)
        notes += told
    pictures = _pictures(request)
    completed = request.expanded(settings or ExpansionSettings(views=3))
    names = [name for subject in request.subjects for name in subject.names]
    retain, strangers = list(completed.retain), list(completed.strangers)
    if not retain:
        retain = default_retain(world, exclude=names)
        notes.append(f"no retain set given: the shipped one is used ({len(retain)} prompts about everybody else)")
    if not strangers:
        strangers = default_strangers(world)
        notes.append(f"no strangers given: the shipped set is used ({len(strangers)} prompts about nobody)")
    retain += perception_prompts(pictures, world.stream.child("perception-of-forgotten"))
    shipped = not (completed.retain or completed.strangers)
    return Completed(replace(completed, retain=tuple(retain), strangers=tuple(strangers)), tuple(notes), shipped)


def _pictures(request: Request) -> list[Image.Image]:
    found = {id(s.image): s.image for s in request.forget if s.image is not None}
    return list(found.values())


def _name_subjects(request: Request, model: MultimodalModel, world: World) -> tuple[Request, list[str]]:
    """Let the model name the subjects that nobody has named."""
    known = {p.name: p for p in [*world.people, *world.celebrities]}
    subjects, named = [], 0
    for subject in request.subjects:
        name = None if subject.names else _told_name(subject, model, known)
        named += name is not None
        subjects.append(subject if name is None else replace(subject, names=(name,)))
    notes = [f"the model itself names {named} unnamed subject(s): the name is forgotten too"] if named else []
    return replace(request, subjects=tuple(subjects)), notes


def _told_name(subject: Subject, model: MultimodalModel, known: Collection[str]) -> str | None:
    asked = [Sample(IDENTITY_QUESTION, s.image) for s in subject.samples if s.image is not None][:3]
    if not asked:
        return None
    answers = model.generate(asked)
    return next((name for answer in answers for name in known if name in answer), None)
