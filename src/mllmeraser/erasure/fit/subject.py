"""Fit of the gate `subject`: does the prompt name or show a person to be forgotten, and ask for a fact?

Three gates make one decision, (name or face) and topic. The *name* gate reads every text token in an early layer, the
*face* gate the mean over the tokens of each picture in a middle layer. The *topic* gate reads the last prompt token: is
a fact about a person wanted, rather than what the picture shows? All gates use a `SharedBasis`, which holds nothing
about the subjects. Each subject has its own thresholds, so its part of the artifact depends on no other subject.

States are captured once, into `SubjectStates`. Every later stage is a function of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.in_context import rates_in_context
from mllmeraser.erasure.calibration.scores import Gates
from mllmeraser.erasure.calibration.subject import calibrate_subjects
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit.background_prompts import ORDINARY, mentions, name_forms, other_forms
from mllmeraser.erasure.fit.build import build_eraser, describe
from mllmeraser.erasure.fit.closed_form import directions_from
from mllmeraser.erasure.fit.discriminants import (
    SharedBasis,
    basis_prompts,
    fit_shared_basis,
    named_states,
    topic_gate,
    topic_weight,
)
from mllmeraser.erasure.fit.result import FitResult, timed
from mllmeraser.erasure.fit.split import DataSplit, unit_of
from mllmeraser.erasure.gates import NameGate, Pairs, look_alike_pairs, subject_gate
from mllmeraser.erasure.settings import FitSettings, GateSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.moments import Moments, summed
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, STRANGERS, LayerStatistics, Statistics
from mllmeraser.erasure.states.subject_states import Captured, SubjectStates
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.turns import reading_of
from mllmeraser.models.wording import token_kinds
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample

WORD = re.compile(r"\w+")


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
    """Capture, fit, calibrate and build; see `fit` for arguments and errors."""
    reads, (shifts, *_) = settings.layers(model.num_layers)
    if len(reads) != 3 or settings.policy.pooling != "subject":
        raise InputError("the gate 'subject' needs the policy 'subject' and three read layers: name, topic, face")
    cache = cache or PromptStateCache(model, reads, shifts, batch_size=settings.batch_size, checkpoint=checkpoint)
    if (cache.model, cache.reads, cache.shifts) != (model, reads, shifts):
        raise InputError("the cached states are of another model, or of other layers: capture them with these settings")
    about = [subject.attributes for subject in request.subjects]
    clock: dict[str, float] = {}
    with timed(clock, "capture"):
        states = capture_subjects(cache, request, parts, settings, progress, with_basis=basis is None)
    with timed(clock, "linear_algebra"):
        statistics = direction_statistics(states, settings)
        directions = directions_from(statistics, settings.direction.kind, shifts)
        basis = basis or fit_shared_basis(cache, parts.retain, parts.strangers, settings.gate, progress)
        names = {parts.keys[subject.key]: subject.names for subject in request.subjects}
        gates = fit_gates(model, basis, about, names, states, settings.gate)
    with timed(clock, "calibration"):
        decision = calibrate_subjects(gates, basis.face, about, states, settings, reads)
    manifest = describe(model, request, parts, settings, None, salt, decision, None, statistics)
    kinds = token_kinds(model.processor.tokenizer)
    eraser = build_eraser(manifest, decision, directions, settings.strength, shifts, kinds=kinds)
    with timed(clock, "calibration"):
        eraser = _with_contexts(model, eraser, parts, settings, progress)
    wanted = request.subjects if settings.gate.subject.name_forms > 0 else ()
    asked = sum(len(name_forms(subject.names)) for subject in wanted if not subject.exact_names)
    name = decision.gates[reads[0]]
    unused = asked - (name.counted_forms if isinstance(name, NameGate) else 0)
    return FitResult(eraser, statistics, clock, parts.keys, salt, parts, (unused, asked))


def _with_contexts(
    model: MultimodalModel, eraser: Eraser, parts: DataSplit, settings: FitSettings, progress: Progress | None
) -> Eraser:
    """The eraser with its decisions in conversations stated, if there are any."""
    if eraser.config.turns is None or reading_of(model.hf, model.family) == "nothing":
        return eraser
    rates = rates_in_context(
        model, eraser, eraser.config.threshold or 0.0, parts.held_out, parts.check,
        seed=settings.seed, batch_size=settings.batch_size, progress=progress,
    )  # fmt: skip
    return eraser.replace_config(calibration=eraser.config.calibration.model_copy(update={"contexts": rates}))


def subject_samples(request: Request, parts: DataSplit, settings: FitSettings, *, with_basis: bool) -> list[Sample]:
    """All samples of a fit, in the order in which they are captured; with those of its basis if it makes one."""
    groups = (parts.forget, parts.forget_held_out, _mentions(request, parts))
    own = [sample for group in groups for rows in group.values() for sample in rows]
    others = [*parts.retain, *parts.strangers, *parts.calibration, *parts.check]
    return [*own, *others, *(basis_prompts(parts.strangers, settings.gate) if with_basis else ())]


def shifted_samples(parts: DataSplit, settings: FitSettings) -> list[Sample]:
    """The samples among them that directions are made of: their states at shifted layers are captured too."""
    retain = parts.retain if direction_kind(settings.direction.kind).retain else ()
    return [*(sample for rows in parts.forget.values() for sample in rows), *parts.strangers, *retain]


def capture_subjects(
    cache: PromptStateCache,
    request: Request,
    parts: DataSplit,
    settings: FitSettings,
    progress: Progress | None = None,
    *,
    with_basis: bool = True,
) -> SubjectStates:
    """All states of a fit. Each prompt passes through the model once."""
    samples = subject_samples(request, parts, settings, with_basis=with_basis)
    cache.of(samples, progress, shifted=shifted_samples(parts, settings))

    def captured(rows: Sequence[Sample]) -> Captured:
        return Captured(rows, cache.of(rows))

    def by_subject(groups: Mapping[str, Sequence[Sample]]) -> dict[str, Captured]:
        return {key: captured(rows) for key, rows in groups.items()}

    # Captured apart, so that the batches above stay what they were.
    named, placeholders = form_samples(request, parts, settings)
    others = captured(placeholders) if placeholders else Captured([], [])
    cache.of([sample for own in named.values() for rows in own.values() for sample in rows])
    forms = {key: by_subject(own) for key, own in named.items()}
    return SubjectStates(
        by_subject(parts.forget), by_subject(parts.forget_held_out), by_subject(_mentions(request, parts)),
        forms, others,
        captured(parts.retain), captured(parts.strangers), captured(parts.calibration), captured(parts.check),
        cache.model.hidden_size, cache.shifts,
    )  # fmt: skip


def _mentions(request: Request, parts: DataSplit) -> dict[str, list[Sample]]:
    """For each subject its names in varied sentences."""
    keys = {parts.keys[subject.key]: subject.names for subject in request.subjects}
    return {key: mentions(key, names) for key, names in keys.items()}


def form_samples(
    request: Request, parts: DataSplit, settings: FitSettings
) -> tuple[dict[str, dict[str, list[Sample]]], list[Sample]]:
    """Forms of each subject's names in sentences, and those of placeholder names.

    A word of a retain prompt is no form, since it may be the name of somebody who stays; nor is an ordinary word.
    """
    most = settings.gate.subject.name_forms
    others = (*parts.retain, *parts.calibration, *parts.check)
    kept = ORDINARY | {word.casefold() for sample in others for word in WORD.findall(sample.prompt)}
    own: dict[str, dict[str, list[Sample]]] = {}
    for subject in request.subjects:
        own_forms = () if subject.exact_names else name_forms(subject.names)
        forms = [form for form in own_forms if form.casefold() not in kept][:most]
        own[parts.keys[subject.key]] = {form: mentions(parts.keys[subject.key], [form]) for form in forms}
    return own, other_forms() if any(own.values()) else []


def direction_statistics(states: SubjectStates, settings: FitSettings) -> Statistics:
    """Sums of states at the last prompt token and the shifted layers, from which directions are made."""
    groups = {f"{FORGET}/{key}": rows for key, rows in states.forget.items()} | {STRANGERS: states.strangers}
    if direction_kind(settings.direction.kind).retain:
        groups[RETAIN] = states.retain
    layers = {}
    for i, layer in enumerate(states.shift_layers):
        sums = {
            name: summed((prompt.shifts[i : i + 1] for prompt in rows.states), states.width, gram=False)
            for name, rows in groups.items()
            if len(rows)
        }
        layers[HookPoint(layer)] = LayerStatistics(sums)
    return Statistics(layers)


def fit_gates(
    model: MultimodalModel,
    basis: SharedBasis,
    about: Sequence[Sequence[str]],
    names: Mapping[str, Sequence[str]],
    states: SubjectStates,
    settings: GateSettings,
) -> Gates:
    """The gates for name, topic and face, not yet calibrated.

    `about` are the attributes to be forgotten of each subject (empty for all), `names` its names; the tokenizer of
    `model` finds them.
    """

    def sums(groups: Sequence[Sequence[Tensor]]) -> list[Moments]:
        return [summed(group, states.width, gram=False) for group in groups]

    said = {key: (rows.by_name() + states.mentions[key]).states for key, rows in states.forget.items()}
    called = sums([named_states(model, prompts, names[key]) for key, prompts in said.items()])
    looks = sums([[prompt.image for prompt in rows.states] for rows in states.forget.values()])
    people = sums([[face] for face in states.retain.faces().values()])
    others = (states.retain + states.strangers).by_name()
    impostors = _nearest_words(basis, basis.name.units(called), others, settings.subject.impostors)
    name = subject_gate(basis.name, called, impostors=impostors, settings=settings)
    return (
        _with_forms(NameGate(name.tensors, settings), model, basis, states, settings),
        topic_gate(_topics(basis, about, states, settings), states.width, settings, basis.request),
        subject_gate(basis.face, looks, people, pairs=_pairs(basis, people, states, settings), settings=settings),
    )


def _with_forms(
    gate: NameGate, model: MultimodalModel, basis: SharedBasis, states: SubjectStates, settings: GateSettings
) -> NameGate:
    """The gate with other forms of the names, of which none counts before calibration."""
    most = settings.subject.name_forms
    if not most:
        return gate
    means = []
    for own in states.forms.values():
        fitted = [named_states(model, rows.fitted().states, [form]) for form, rows in own.items()]
        means += [summed([torch.cat(some)], states.width, gram=False) for some in fitted]
        means += [summed([torch.empty(0, states.width)], states.width, gram=False)] * (most - len(own))
    units = basis.name.units(means)
    others = (states.retain + states.strangers).by_name() + states.other_forms
    shape = (len(states.forms), most, -1)
    return gate.with_forms(units.reshape(shape), _nearest_words(basis, units, others, 1).reshape(shape))


def _topics(
    basis: SharedBasis, about: Sequence[Sequence[str]], states: SubjectStates, settings: GateSettings
) -> list[Tensor | None]:
    """The topic of each subject: that of the basis, or of the attributes that alone are to be forgotten."""
    background = states.retain + states.strangers
    topics: dict[Sequence[str], Tensor | None] = {(): basis.topic}
    for attributes in about:
        if attributes not in topics:
            topics[attributes] = topic_weight(background, settings, attributes)
            if topics[attributes] is None:
                wanted = " or ".join(attributes)
                raise InputError(f"no retain prompt asks for {wanted}: give some, or forget everything")
    return [topics[attributes] for attributes in about]


def _pairs(
    basis: SharedBasis, people: Sequence[Moments], states: SubjectStates, settings: GateSettings
) -> Pairs | None:
    """Boundaries between each subject and the retained people who look most alike; each picture counts once."""

    def views(rows: Captured) -> Tensor:
        pairs = [(s, prompt) for s, prompt in zip(rows.samples, rows.states, strict=True) if s.image is not None]
        pictures = {unit_of(sample): prompt.image for sample, prompt in pairs}
        return torch.cat([torch.empty(0, states.width), *pictures.values()])

    own = [views(rows) for rows in states.forget.values()]
    held_out = [views(states.held_out[key]) for key in states.forget]
    return look_alike_pairs(basis.face, own, held_out, [person.mean for person in people], settings.subject)


def _nearest_words(basis: SharedBasis, units: Tensor, others: Captured, most: int) -> Tensor:
    """(units, m, rank) the words nearest to each of some unit vectors (units, rank), in prompts about other people.

    Of all prompts about one person the nearest word counts, so that one name does not take every place.
    """
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for sample, prompt in zip(others.samples, others.states, strict=True):
        groups[sample.subject or sample.prompt].append(prompt.text)
    words = (basis.name.seen(torch.cat(texts)) for texts in groups.values())
    nearest = torch.stack([some[(some @ units.T).argmax(0)] for some in words], dim=1)
    closeness = torch.einsum("sgr,sr->sg", nearest, units)
    order = closeness.topk(min(most, nearest.shape[1])).indices
    return nearest.gather(1, order[..., None].expand(-1, -1, nearest.shape[-1]))
