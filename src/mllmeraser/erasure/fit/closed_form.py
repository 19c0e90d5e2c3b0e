"""Gates and directions from statistics: the linear algebra of a fit, and all that a revocation has to redo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from mllmeraser.erasure.directions.kinds import Direction, erasure_direction
from mllmeraser.erasure.gates import Gate, gate_class
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import InputError

ALL_SUBJECTS = "all"


def gates_from(statistics: Statistics, settings: GateSettings, layers: Sequence[int]) -> dict[int, Gate]:
    """Gates of all subjects at `layers`, in the order of the statistics (or one gate for all).

    They depend on the statistics alone. So statistics without a subject give exactly the gates of a fit without it.
    """
    gates, kind = {}, gate_class(settings.kind)
    for layer in layers:
        moments = statistics[layer]
        if not moments.forget:
            raise InputError("there is no subject left to forget")
        sides = list(moments.forget.values())
        if not settings.per_subject:
            sides = [reduce(add, sides)]
        gates[layer] = kind.merge([kind.fit(moments.retain, side, settings) for side in sides])
    return gates


def gates_from_states(
    groups: Mapping[str, Mapping[HookPoint, Tensor]],
    subjects: Sequence[str],
    settings: GateSettings,
    layers: Sequence[int],
    seed: int,
) -> dict[int, Gate]:
    """As `gates_from`, for kinds that are fitted on the states themselves (see `gather_sums`)."""
    gates, kind = {}, gate_class(settings.kind)
    for layer in layers:
        point = HookPoint(layer)
        sides = [groups[f"{FORGET}/{subject}"][point] for subject in subjects]
        if not settings.per_subject:
            sides = [torch.cat(sides)]
        retain = groups[RETAIN][point]
        gates[layer] = kind.merge([kind.fit(retain, side, settings, seed + i) for i, side in enumerate(sides)])
    return gates


def directions_from(statistics: Statistics, kind: str, layers: Sequence[int]) -> dict[int, Direction]:
    """Directions of `kind` at `layers`."""
    return {layer: erasure_direction(kind, statistics[layer]) for layer in layers}
