"""Fit of the default eraser: who is asked about, and is a fact about them wanted?

Three gates make one decision. A *name* gate reads an early layer at every text token, a *face* gate a middle layer,
in the mean over the tokens of every image: is this somebody to be forgotten? A *topic* gate reads the last prompt
token: is a fact about a person wanted, rather than what the picture shows? It fires where (name or face) and topic.
Thresholds come from held-out prompts, by the same code that steers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from mllmeraser.erasure.anchors import Found, anchor_states
from mllmeraser.erasure.assemble import assemble, describe
from mllmeraser.erasure.calibrate import Decision
from mllmeraser.erasure.closed_form import directions_from
from mllmeraser.erasure.config import Calibration
from mllmeraser.erasure.gates import Gate, identity_gate, soft_gate
from mllmeraser.erasure.identity_thresholds import name_and_face
from mllmeraser.erasure.mentions import mentions
from mllmeraser.erasure.plan import IDENTITY_SITES, Site, SteeringPlan
from mllmeraser.erasure.readings import GateReadings, read_gate
from mllmeraser.erasure.result import FitResult, timed
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.split import Parts
from mllmeraser.erasure.statistics import FORGET, STRANGERS, LayerStatistics, Moments, Statistics
from mllmeraser.erasure.steering_pass import NOWHERE
from mllmeraser.erasure.threshold import auc, wilson
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import IMPERSONAL, Sample

Names = Mapping[str, Sequence[str]]
NAMED = "named"
"""Group of prompts that mention a subject; nothing is learnt from them but the look of the name."""


def fit_identity(
    model: MultimodalModel,
    request: Request,
    parts: Parts,
    settings: FitSettings,
    salt: str,
    names: Names,
    progress: Progress | None = None,
) -> FitResult:
    """Fit, calibrate and assemble; see `fit` for arguments and errors, ``names`` are those of the subjects by key."""
    reads, (shifts, *_) = settings.layers(model.num_layers)
    if len(reads) != len(IDENTITY_SITES) or settings.policy.pooling != "identity":
        raise InputError("the identity gate needs the policy 'subject' and three read layers: name, topic, face")
    clock: dict[str, float] = {}
    sites = {site: HookPoint(layer) for site, layer in zip(IDENTITY_SITES, reads, strict=True)}
    groups = {f"{FORGET}/{key}": rows for key, rows in parts.forget.items()}
    groups |= {f"{NAMED}/{parts.keys[key]}": mentions(key, called) for key, called in names.items()}
    groups |= {STRANGERS: parts.strangers, "retain": parts.retain}
    with timed(clock, "capture"):
        samples = [sample for rows in groups.values() for sample in rows]
        points = model.hookpoints(shifts)
        found, last = anchor_states(
            model, samples, sites, names, points, batch_size=settings.batch_size, progress=progress
        )
    with timed(clock, "linear_algebra"):
        where = _slices(groups)
        statistics = _last_statistics(last, where)
        directions = directions_from(statistics, settings.direction.kind, shifts)
        gates = _gates(found, samples, where, parts, settings, reads)
    with timed(clock, "calibration"):
        plan = SteeringPlan(
            "fit", reads, shifts, {layer: directions[layer].vector for layer in shifts}, gates, settings.policy, 0.0,
            image_token=model.family.image_token_id(model.hf),
        )  # fmt: skip
        decision = _calibrate(model, plan, parts, settings, progress)
    manifest = describe(model, request, parts, settings, None, salt, decision, None, statistics)
    eraser = assemble(manifest, decision, directions, settings.strength, shifts)
    clock["total"] = sum(clock.values())
    return FitResult(eraser, statistics, clock, parts.keys, salt, parts)


# -- sums and gates --------------------------------------------------------------------------------------------


def _slices(groups: Mapping[str, Sequence[Sample]]) -> dict[str, range]:
    """Where each group stands among all samples."""
    found, start = {}, 0
    for name, rows in groups.items():
        found[name] = range(start, start + len(rows))
        start += len(rows)
    return found


def _last_statistics(last: Mapping[HookPoint, Tensor], where: Mapping[str, range]) -> Statistics:
    """Sums of the last prompt token's states, from which directions are made."""
    return Statistics(
        {
            point: LayerStatistics(
                {
                    name: Moments.from_states(states[list(rows)], gram=False)
                    for name, rows in where.items()
                    if len(rows) and not name.startswith(NAMED)
                }
            )
            for point, states in last.items()
        }
    )


def _gates(
    found: Found,
    samples: Sequence[Sample],
    where: Mapping[str, range],
    parts: Parts,
    settings: FitSettings,
    reads: Sequence[int],
) -> dict[int, Gate]:
    keys = list(parts.forget)
    gates = {}
    for site, layer in zip(IDENTITY_SITES, reads, strict=True):
        states = found[site]
        forget = [_site_moments(states, samples, where[f"{FORGET}/{key}"], site) for key in keys]
        if site == "text":
            named = [_site_moments(states, samples, where.get(f"{NAMED}/{key}", range(0)), site) for key in keys]
            forget = [asked + said for asked, said in zip(forget, named, strict=True)]
        if site == "last":
            gates[layer] = _topic_gate(states, samples, forget, where["retain"], settings)
            continue
        background = [*where["retain"], *where[STRANGERS]]
        if site == "image":  # faces only: else the discriminants tell faces from scenes
            background = [row for row in background if samples[row].subject] or background
        retain = _site_moments(states, samples, background, site)
        people = forget if site == "text" else _people(states, samples, where["retain"])
        rank = settings.gate.rank or retain.width
        gates[layer] = identity_gate(
            retain, people, forget, rank=rank, ridge=settings.gate.ridge, cohort=site == "image"
        )
    return gates


def _site_moments(states: Sequence[Tensor], samples: Sequence[Sample], rows: Sequence[int], site: Site) -> Moments:
    """Sums over all positions of a site; a name is looked for in prompts without a picture only."""
    chosen = [states[r] for r in rows if site != "text" or samples[r].image is None]
    return Moments.from_states(torch.cat([states[0][:0], *chosen]))


def _people(states: Sequence[Tensor], samples: Sequence[Sample], rows: range) -> list[Moments]:
    """States of each retained person of whom there are several pictures."""
    by_person: dict[str, list[Tensor]] = defaultdict(list)
    for row in rows:
        if samples[row].subject and len(states[row]):
            by_person[samples[row].subject or ""].append(states[row])
    return [Moments.from_states(torch.cat(found)) for found in by_person.values() if len(found) > 1]


def _topic_gate(
    states: Sequence[Tensor], samples: Sequence[Sample], forget: Sequence[Moments], rows: range, settings: FitSettings
) -> Gate:
    """One linear gate, repeated for every subject: fact questions against prompts about no fact of anybody."""
    other = [states[row] for row in rows if samples[row].attribute in IMPERSONAL]
    if not other:  # nothing to tell fact questions from: the topic is always right
        closed = Gate("soft", {"weight": torch.zeros(len(forget), states[0].shape[-1], dtype=torch.float64)})
        return closed.affine(torch.ones(len(forget)), torch.full((len(forget),), -NOWHERE))
    facts = reduce(add, forget)
    gate = soft_gate(Moments.from_states(torch.cat(other)), facts, beta=1.0, gamma=settings.gate.gamma)
    return Gate.stack([gate] * len(forget))


# -- thresholds ------------------------------------------------------------------------------------------------


def _calibrate(
    model: MultimodalModel, plan: SteeringPlan, parts: Parts, settings: FitSettings, progress: Progress | None
) -> Decision:
    """Put every gate's threshold at 0, then measure the decision on prompts that set none of them."""
    alpha = settings.false_alarm_rate
    name, topic, face = plan.reads
    facts = [s for s in parts.calibration if s.attribute not in IMPERSONAL]
    held = parts.held_out or [sample for rows in parts.forget.values() for sample in rows]
    seen, meant = (_read(model, plan, rows, settings, progress) for rows in (facts, held))
    gates = dict(plan.gates)
    told, wanted = ((read.layers[name], read.layers[face]) for read in (seen, meant))
    thresholds = name_and_face(told, wanted, held, alpha=alpha, spare=settings.gate.spare)
    for layer, threshold in zip((name, face), thresholds, strict=True):
        gates[layer] = _moved(gates[layer], threshold)
    low = float(torch.quantile(meant.layers[topic].amax(-1).double(), settings.gate.spare))
    if bool((plan.gates[topic].tensors["weight"] != 0).any()):  # type: ignore[attr-defined]
        others = [s for s in parts.calibration if s.attribute in IMPERSONAL] or [
            s for s in parts.retain if s.attribute in IMPERSONAL
        ]
        high = float(_read(model, plan, others, settings, progress).layers[topic].amax(-1).max())
        gates[topic] = _moved(gates[topic], (low + high) / 2 if high < low else low)
    ready = replace(plan, gates=gates)
    check, forget = (_read(model, ready, rows, settings, progress).pooled for rows in (parts.check, held))
    fired = int((check > 0).sum())
    calibration = Calibration(
        false_alarm_target=alpha,
        n=len(facts),
        n_check=len(check),
        false_alarms=fired / len(check) if len(check) else None,
        false_alarms_interval=wilson(fired, len(check)) if len(check) else None,
        detected=float((forget > 0).double().mean()) if len(forget) else None,
        auc=auc(forget, check),
        mean_forget=float(forget.mean()) if len(forget) else None,
        mean_retain=float(check.mean()) if len(check) else None,
    )
    return Decision(gates, 0.0, None, calibration)  # type: ignore[arg-type]


def _read(
    model: MultimodalModel,
    plan: SteeringPlan,
    samples: Sequence[Sample],
    settings: FitSettings,
    progress: Progress | None,
) -> GateReadings:
    return read_gate(model, plan, samples, batch_size=settings.batch_size, progress=progress)


def _moved(gate: object, threshold: float) -> Gate:
    """The gate with its threshold at 0; scores of all subjects move alike."""
    assert isinstance(gate, Gate)
    scale = gate.tensors["scale"]
    return gate.affine(scale, gate.tensors["offset"] - threshold)
