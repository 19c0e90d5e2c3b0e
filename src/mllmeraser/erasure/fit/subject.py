"""Fit of the default eraser: who is asked about, and is a fact about them wanted?

Three gates make one decision. A *name* gate reads an early layer at every text token, a *face* gate a middle layer,
in the mean over the tokens of every image: is this somebody to be forgotten? A *topic* gate reads the last prompt
token: is a fact about a person wanted, rather than what the picture shows? It fires where (name or face) and topic.
All are seen through a `SharedBasis` that knows nothing of who is to be forgotten, and each subject has its own thresholds,
from held-out prompts: what an eraser holds of one subject depends on no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.manifest import Calibration
from mllmeraser.erasure.calibration.linear import Decision
from mllmeraser.erasure.calibration.scores import Gates, scores_of
from mllmeraser.erasure.calibration.subject import (
    FACE_SHARE,
    NAME_SHARE,
    Levels,
    impostor_threshold,
    subject_thresholds,
    topic_threshold,
    with_margin,
)
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit.background_prompts import mentions
from mllmeraser.erasure.fit.build import assemble, describe
from mllmeraser.erasure.fit.closed_form import directions_from
from mllmeraser.erasure.fit.discriminants import (
    SharedBasis,
    asks,
    basis_prompts,
    by_person,
    fit_shared_basis,
    moments,
    named_states,
    topic_gate,
    topic_weight,
)
from mllmeraser.erasure.fit.result import FitResult, timed
from mllmeraser.erasure.fit.split import DataSplit, unit_of
from mllmeraser.erasure.gates import Gate, Pairs, look_alike_pairs, subject_gate
from mllmeraser.erasure.gates.conformal import auc, wilson
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.moments import Moments, summed
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, STRANGERS, LayerStatistics, Statistics
from mllmeraser.erasure.steering.plan import IDENTITY_SITES
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import IMPERSONAL, Sample

RIVALS = 4
"""How many words compete with a name: a syllable that two names share must not pass for the name."""


def fit_subjects(
    model: MultimodalModel,
    request: Request,
    parts: DataSplit,
    settings: FitSettings,
    salt: str,
    progress: Progress | None = None,
    *,
    cache: PromptStateCache | None = None,
    basis: SharedBasis | None = None,
    checkpoint: CaptureCheckpoint | None = None,
) -> FitResult:
    """Fit, calibrate and assemble; see `fit` for arguments and errors."""
    reads, (shifts, *_) = settings.layers(model.num_layers)
    if len(reads) != len(IDENTITY_SITES) or settings.policy.pooling != "subject":
        raise InputError("the identity gate needs the policy 'subject' and three read layers: name, topic, face")
    cache = cache or PromptStateCache(model, reads, shifts, batch_size=settings.batch_size, checkpoint=checkpoint)
    if (cache.model, cache.reads, cache.shifts) != (model, reads, shifts):
        raise InputError("the cache are of another model, or of other layers: capture them with these settings")
    names = {parts.keys[subject.key]: subject.names for subject in request.subjects}
    about = [subject.attributes for subject in request.subjects]
    said = _said(request, parts)
    clock: dict[str, float] = {}
    with timed(clock, "capture"):
        samples = subject_samples(request, parts, basis=basis is None)
        cache.of(samples, progress, shifted=shifted_samples(parts, settings))
    with timed(clock, "linear_algebra"):
        statistics = _last_statistics(parts, settings, cache)
        directions = directions_from(statistics, settings.direction.kind, shifts)
        basis = basis or fit_shared_basis(cache, parts.retain, parts.strangers, settings.gate, progress)
        topics = _topics(basis, about, parts, cache, settings)
        gates = _gates(basis, topics, parts, said, names, cache)
    with timed(clock, "calibration"):
        gates, stated = _with_thresholds(gates, basis, about, parts, cache, settings)
        decision = _measured(gates, stated, parts, cache, settings)
    manifest = describe(model, request, parts, settings, None, salt, decision, None, statistics)
    eraser = assemble(manifest, decision, directions, settings.strength, shifts)
    clock["total"] = sum(clock.values())
    return FitResult(eraser, statistics, clock, parts.keys, salt, parts)


def subject_samples(request: Request, parts: DataSplit, *, basis: bool) -> list[Sample]:
    """All that a fit reads, in the order in which it is captured; with what its basis reads, if that is to be made."""
    groups = (parts.forget, parts.forget_held_out, _said(request, parts))
    own = [s for group in groups for rows in group.values() for s in rows]
    others = [*parts.retain, *parts.strangers, *parts.calibration, *parts.check]
    return [*own, *others, *(basis_prompts(parts.strangers) if basis else ())]


def shifted_samples(parts: DataSplit, settings: FitSettings) -> list[Sample]:
    """Those of `subject_samples` whose states at the shifted layers are needed, too."""
    return [sample for rows in _behind_directions(parts, settings).values() for sample in rows]


def _said(request: Request, parts: DataSplit) -> dict[str, list[Sample]]:
    """For each subject its names in many sentences."""
    keys = {parts.keys[subject.key]: subject.names for subject in request.subjects}
    return {key: mentions(key, names) for key, names in keys.items()}


# -- sums and gates --------------------------------------------------------------------------------------------


def _last_statistics(parts: DataSplit, settings: FitSettings, cache: PromptStateCache) -> Statistics:
    """MomentAccumulator of the last prompt token's states, from which directions are made."""
    groups = _behind_directions(parts, settings)
    seen = {name: cache.of(rows, shifted=rows) for name, rows in groups.items() if rows}
    width = cache.model.hidden_size
    return Statistics(
        {
            HookPoint(layer): LayerStatistics(
                {name: summed((a.shifts[i : i + 1] for a in some), width, gram=False) for name, some in seen.items()}
            )
            for i, layer in enumerate(cache.shifts)
        }
    )


def _behind_directions(parts: DataSplit, settings: FitSettings) -> dict[str, Sequence[Sample]]:
    """The groups that directions are made of."""
    groups: dict[str, Sequence[Sample]] = {f"{FORGET}/{key}": rows for key, rows in parts.forget.items()}
    groups[STRANGERS] = parts.strangers
    if direction_kind(settings.direction.kind).retain:
        groups[RETAIN] = parts.retain
    return groups


def _topics(
    basis: SharedBasis, about: Sequence[Sequence[str]], parts: DataSplit, cache: PromptStateCache, settings: FitSettings
) -> list[Tensor | None]:
    """The topic of each subject: that of the basis, or of the attributes that alone are to be forgotten."""
    background = [*parts.retain, *parts.strangers]
    found: dict[Sequence[str], Tensor | None] = {(): basis.topic}
    for attributes in about:
        if attributes not in found:
            found[attributes] = topic_weight(cache.of(background), background, settings.gate, attributes)
            if found[attributes] is None:
                wanted = " or ".join(attributes)
                raise InputError(f"no retain prompt asks for {wanted}: give some, or forget everything")
    return [found[attributes] for attributes in about]


def _gates(
    basis: SharedBasis,
    topics: Sequence[Tensor | None],
    parts: DataSplit,
    said: Mapping[str, Sequence[Sample]],
    names: Mapping[str, Sequence[str]],
    cache: PromptStateCache,
) -> Gates:
    called, looks = [], []
    for key, rows in parts.forget.items():
        by_name = [sample for sample in rows if sample.image is None]
        states = named_states(cache.model, cache.of([*by_name, *said[key]]), names[key])
        called.append(moments(states, cache, gram=False))
        looks.append(moments([a.image for a in cache.of(rows)], cache, gram=False))
    faces = by_person(cache.of(parts.retain), parts.retain).values()
    people = [moments([states], cache, gram=False) for states in faces]
    return (
        subject_gate(basis.name, called, rivals=_like_names(basis, called, parts, cache)),
        topic_gate(topics, cache.model.hidden_size),
        subject_gate(basis.face, looks, people, pairs=_like_faces(basis, people, parts, cache)),
    )


def _like_faces(
    basis: SharedBasis, people: Sequence[Moments], parts: DataSplit, cache: PromptStateCache
) -> Pairs | None:
    """What tells each subject from the retained people who look most alike, from each of its pictures once."""

    def views(rows: Sequence[Sample]) -> Tensor:
        pictures = {unit_of(sample): sample for sample in rows if sample.image is not None}
        none = torch.empty(0, cache.model.hidden_size)
        return torch.cat([none, *(prompt.image for prompt in cache.of(list(pictures.values())))])

    own = [views(rows) for rows in parts.forget.values()]
    held_out = [views(parts.forget_held_out[key]) for key in parts.forget]
    return look_alike_pairs(basis.face, own, held_out, [person.mean for person in people])


def _like_names(basis: SharedBasis, called: Sequence[Moments], parts: DataSplit, cache: PromptStateCache) -> Tensor:
    """(subjects, m, rank) rivals of each name: the words nearest to it in prompts that are no subject's.

    Of all prompts about one person the nearest word counts, so that one name does not take every place.
    """
    rows = [sample for sample in (*parts.retain, *parts.strangers) if sample.image is None]
    groups: dict[str, list[Tensor]] = {}
    for sample, prompt in zip(rows, cache.of(rows), strict=True):
        groups.setdefault(sample.subject or sample.prompt, []).append(prompt.text)
    units = basis.name.units(called)
    best = []
    for states in groups.values():
        words = basis.name.seen(torch.cat(states))
        best.append(words[(words @ units.T).argmax(0)])
    nearest = torch.stack(best, dim=1)
    order = torch.einsum("sgr,sr->sg", nearest, units).topk(min(RIVALS, nearest.shape[1])).indices
    return nearest.gather(1, order[..., None].expand(-1, -1, nearest.shape[-1]))


# -- thresholds ------------------------------------------------------------------------------------------------


def _with_thresholds(
    gates: Gates,
    basis: SharedBasis,
    about: Sequence[Sequence[str]],
    parts: DataSplit,
    cache: PromptStateCache,
    settings: FitSettings,
) -> tuple[Gates, Tensor]:
    """Every gate with its thresholds at 0, and the rate of false alarms (subjects,) that each subject's keep to."""
    name, topic, face = gates
    miss_rate = settings.gate.miss_rate
    facts = [s for s in parts.calibration if s.attribute not in IMPERSONAL]
    seen = scores_of(gates, cache.of(facts))
    held = [parts.forget_held_out[key] or rows for key, rows in parts.forget.items()]
    own = [scores_of(gates, cache.of(rows)) for rows in held]
    by_name = [torch.tensor([s.image is None for s in rows]) for rows in held]
    called = [mine[0][where, i] for i, (mine, where) in enumerate(zip(own, by_name, strict=True))]
    looks = [mine[2][~where, i] for i, (mine, where) in enumerate(zip(own, by_name, strict=True))]
    most, least = NAME_SHARE * settings.false_alarm_rate, FACE_SHARE * settings.false_alarm_rate
    names = subject_thresholds(seen[0], called, miss_rate, most)
    common = _impostors(basis, parts, cache, least)
    faces = (
        subject_thresholds(seen[2], looks, miss_rate, most)
        if common is None
        else Levels.common(common, least, len(own))
    )
    name = _moved(name, with_margin(names.thresholds, called, miss_rate))
    face = _moved(face, with_margin(faces.thresholds, looks, miss_rate))
    topic = _moved(topic, _topic_thresholds(gates, about, parts, cache, [mine[1] for mine in own], miss_rate))
    return (name, topic, face), names.rates + faces.rates


def _topic_thresholds(
    gates: Gates,
    about: Sequence[Sequence[str]],
    parts: DataSplit,
    cache: PromptStateCache,
    own: Sequence[Tensor],
    miss_rate: float,
) -> Tensor:
    """(subjects,) thresholds between what is asked for and all else; where there is nothing else, none."""
    found = []
    for row, attributes in enumerate(about):
        rows = [s for s in parts.calibration if not asks(s, attributes)] or [
            s for s in parts.retain if not asks(s, attributes)
        ]
        wanted = [s for s in parts.calibration if asks(s, attributes)]
        if not rows or not bool(gates[1].tensors["weight"][row].any()):
            found.append(0.0)
            continue
        other, facts = (scores_of(gates, cache.of(some))[1][:, row] for some in (rows, wanted))
        found.append(topic_threshold(other, facts, own[row][:, row], miss_rate))
    return torch.tensor(found, dtype=torch.float64)


def _impostors(basis: SharedBasis, parts: DataSplit, cache: PromptStateCache, rate: float) -> float | None:
    """The threshold of faces that retained people give when each plays the subject in turn."""
    facts = [s for s in parts.calibration if s.attribute not in IMPERSONAL]
    people = [(k, states.double().mean(0)) for k, states in by_person(cache.of(parts.retain), parts.retain).items()]
    seen = [(s.subject, a.image) for s, a in zip(facts, cache.of(facts), strict=True)]
    return impostor_threshold(basis.face, people, seen, rate)


def _measured(
    gates: Gates, stated: Tensor, parts: DataSplit, cache: PromptStateCache, settings: FitSettings
) -> Decision:
    """The decision, measured on prompts that set none of its thresholds."""
    held = parts.held_out or [sample for rows in parts.forget.values() for sample in rows]
    check, forget = (settings.policy.pool(scores_of(gates, cache.of(rows))) for rows in (parts.check, held))
    fired = int((check > 0).sum())
    calibration = Calibration(
        false_alarm_target=min(1.0, float(stated.sum())),
        n=sum(sample.attribute not in IMPERSONAL for sample in parts.calibration),
        n_check=len(check),
        false_alarms=fired / len(check) if len(check) else None,
        false_alarms_interval=wilson(fired, len(check)) if len(check) else None,
        detected=float((forget > 0).double().mean()) if len(forget) else None,
        auc=auc(forget, check),
        mean_forget=float(forget.mean()) if len(forget) else None,
        mean_retain=float(check.mean()) if len(check) else None,
    )
    layers = settings.layers(cache.model.num_layers)[0]
    return Decision(dict(zip(layers, gates, strict=True)), 0.0, None, calibration, stated)


def _moved(gate: Gate, thresholds: Tensor) -> Gate:
    """The gate with its thresholds (subjects,) at 0."""
    return gate.affine(gate.tensors["scale"], gate.tensors["offset"] - thresholds.to(gate.tensors["offset"]))
