"""The groups of prompts that a verification asks: about the subjects, their neighbours, other people and things.

For requests about what is no person see `fresh_things`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.taught import world_taught
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.verify import fresh_prompts as fresh
from mllmeraser.serving.verify.fresh_things import thing_prompts
from mllmeraser.serving.verify.general import general_prompts, perception_prompts

NAME_GATE, FACE_GATE = 0, 2
"""Positions of the gates for names and for faces among the read layers of an eraser with subject gates."""
_PLACEHOLDER = Sample("Nothing is asked here.", id="stand-in")


def prompts_by_group(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    retain: Sequence[Sample],
    others: Sequence[Sample] | None,
    seed: int,
    sizes: fresh.Sizes,
    progress: Progress | None,
) -> dict[str, list[Sample]]:
    """Prompts by group, without those of the completed request.

    A request about what is no person has prompts of its own; samples of the operator are asked beside them.
    """
    if not request.about_people:
        return _about_things(model, eraser, request, retain, others, seed, sizes, progress)
    completed = _completed(request, model)
    subjects = [replace(own, names=full.names) for own, full in zip(request.subjects, completed.subjects, strict=True)]
    if others is None:
        rest = _drawn(model, eraser, request, subjects, seed, sizes, progress)
    else:
        rest = _given(model, eraser, others, seed, sizes, progress)
    groups = {
        "forget": fresh.forget_prompts(subjects, seed, sizes),
        "rest": fresh.rest_prompts(subjects, seed, sizes),
        **rest,
        "retain": [*retain, *fresh.own_retain_prompts(request.retain, seed, sizes.people), *rest["retain"]],
        "perception": perception_prompts(fresh.subject_views(subjects, seed, sizes.views), seed, sizes.perception),
    }
    seen = {s.digest() for s in (*completed.forget, *completed.retain, *completed.strangers)}
    groups = {name: fresh.unseen(samples, seen) for name, samples in groups.items()}
    if not groups["forget"]:
        raise InputError("the verification has no fresh prompts: give a picture or a name of each subject")
    return groups


def _about_things(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    retain: Sequence[Sample],
    others: Sequence[Sample] | None,
    seed: int,
    sizes: fresh.Sizes,
    progress: Progress | None,
) -> dict[str, list[Sample]]:
    groups = thing_prompts(model, eraser, request, seed, sizes, progress)
    rest = {} if others is None else _given(model, eraser, others, seed, sizes, progress)
    more = {**rest, "retain": [*retain, *rest.get("retain", ())]}
    return {name: [*samples, *more.get(name, ())] for name, samples in groups.items()}


def _drawn(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    subjects: Sequence[Subject],
    seed: int,
    sizes: fresh.Sizes,
    progress: Progress | None,
) -> dict[str, list[Sample]]:
    """Prompts about others, from the shipped drawn world."""
    known = fresh.known_people(world_taught(model.name), [name for subject in subjects for name in subject.names])
    by_name = all(sample.image is None for sample in request.forget)
    near = _nearest(model, eraser, known, seed, sizes.neighbours, by_name=by_name, progress=progress)
    some = Stream("verification", seed, "people").shuffle(list(known))[: sizes.people]
    return {
        "neighbours": _people(near, Stream("verification", seed, "near"), sizes.neighbour_prompts),
        "retain": _people(some, Stream("verification", seed, "retain"), sizes.prompts),
        "general": general_prompts(known, seed, sizes.general),
    }


def _given(
    model: MultimodalModel,
    eraser: Eraser,
    others: Sequence[Sample],
    seed: int,
    sizes: fresh.Sizes,
    progress: Progress | None,
) -> dict[str, list[Sample]]:
    """Prompts about others, from samples of the operator: those with the highest scores, and a choice of the rest."""
    order = read_gate(model, eraser, others, progress=progress).pooled.argsort(descending=True).tolist()
    near = min(sizes.neighbours * sizes.neighbour_prompts, len(others) // 4)
    rest = Stream("verification", seed, "others").shuffle([others[i] for i in order[near:]])
    kept = rest[: sizes.people * sizes.prompts + sizes.general]
    return {"neighbours": [others[i] for i in order[:near]], "retain": kept, "general": []}


def _completed(request: Request, model: MultimodalModel) -> Request:
    """The request as `erase` completes it, with names that the model tells, but without the shipped sets.

    These sets are slow to draw, and all their wordings are of the pool `train`.
    """
    filled = replace(request, retain=request.retain or (_PLACEHOLDER,), strangers=request.strangers or (_PLACEHOLDER,))
    return complete(filled, model).request


def _nearest(
    model: MultimodalModel,
    eraser: Eraser,
    people: Sequence[Person],
    seed: int,
    n: int,
    *,
    by_name: bool,
    progress: Progress | None,
) -> list[Person]:
    """The `n` retained people that the eraser is most likely to take for its subjects, the nearest first.

    One prompt about each is scored: over a new picture by the face gate, or, with `by_name` (a request without
    pictures), in text by the name gate. An eraser without these gates ranks by its score.
    """
    stream = Stream("verification", seed, "candidates")
    prompts = [fresh.person_prompts(person, stream.child(person.key), 2)[1 if by_name else 0] for person in people]
    readings = read_gate(model, eraser, prompts, progress=progress)
    scores = readings.pooled
    if eraser.config.policy.pooling == "subject":
        scores = readings.layers[eraser.config.read_layers[NAME_GATE if by_name else FACE_GATE]].amax(-1)
    return [people[row] for row in scores.argsort(descending=True)[:n].tolist()]


def _people(people: Sequence[Person], stream: Stream, n: int) -> list[Sample]:
    return [sample for person in people for sample in fresh.person_prompts(person, stream.child(person.key), n)]
