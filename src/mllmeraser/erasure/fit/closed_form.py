"""From statistics to gates and directions: the linear algebra of a fit, and all that a revocation has to
redo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from mllmeraser.erasure.directions.kinds import Direction, erasure_direction
from mllmeraser.erasure.gates import Gate, hard_gate, neural_gate, quadratic_gate, soft_gate
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import InputError

ALL_SUBJECTS = "all"


def fit_gate(retain: Moments, forget: Moments, settings: GateSettings) -> Gate:
    """One closed-form gate of one subject at one layer, with the numbers of `settings`.

    Raises:
        InputError: If the kind is not closed-form.
        NumericalError: If the system cannot be solved.
    """
    if settings.kind == "hard":
        return hard_gate(retain, forget, ratio=settings.ratio, gamma=settings.gamma)
    if settings.kind == "soft":
        return soft_gate(retain, forget, beta=settings.beta, gamma=settings.gamma)
    if settings.kind == "quadratic":
        return quadratic_gate(retain, forget, shrink=settings.shrink, gamma=settings.gamma, rank=settings.rank)
    raise InputError(f"the {settings.kind} gate is fitted on states, not on statistics")


def gates_from(statistics: Statistics, settings: GateSettings, layers: Sequence[int]) -> dict[int, Gate]:
    """Gates of all subjects at `layers`, subjects in the order of the statistics (or one gate for all).

    Depends on the statistics alone: taking a subject out of them gives exactly the gates of a fit without it.
    """
    found = {}
    for layer in layers:
        moments = statistics[layer]
        if not moments.forget:
            raise InputError("there is nobody left to forget")
        sides = list(moments.forget.values())
        if not settings.per_subject:
            sides = [reduce(add, sides)]
        found[layer] = Gate.stack([fit_gate(moments.retain, side, settings) for side in sides])
    return found


def neural_gates(
    groups: Mapping[str, Mapping[HookPoint, Tensor]],
    subjects: Sequence[str],
    settings: GateSettings,
    layers: Sequence[int],
    seed: int,
) -> dict[int, Gate]:
    """Perceptron gates of all subjects at `layers`, from the states themselves (see `gather`)."""
    found = {}
    for layer in layers:
        point = HookPoint(layer)
        sides = [groups[f"{FORGET}/{subject}"][point] for subject in subjects]
        if not settings.per_subject:
            sides = [torch.cat(sides)]
        retain = groups[RETAIN][point]
        gates = [neural_gate(retain, side, hidden=settings.hidden, seed=seed + i) for i, side in enumerate(sides)]
        found[layer] = Gate.stack(gates)
    return found


def directions_from(statistics: Statistics, kind: str, layers: Sequence[int]) -> dict[int, Direction]:
    """Directions of `kind` at `layers`."""
    return {layer: erasure_direction(kind, statistics[layer]) for layer in layers}
