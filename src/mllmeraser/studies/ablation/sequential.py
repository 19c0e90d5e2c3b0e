"""Layer after layer: each fitted on the model as the layers before it steer it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.pgd import AdversarialBatch
from mllmeraser.erasure.fit.closed_form import directions_from, gates_from
from mllmeraser.erasure.states.collect import gather, statistics_of
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import InputError
from mllmeraser.studies.ablation.edits import Only

if TYPE_CHECKING:
    from mllmeraser.studies.ablation.lab import Lab


@dataclass(frozen=True)
class Refitted:
    """Gate and direction of every layer made anew, in order, on states that the layers before have moved.

    In a fit all layers read the unsteered model, yet all but the first are applied to one that is steered already. For
    artifacts that read where they shift, with the direction `refusal`; the perturbed pictures are those of the bare
    model.
    """

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        config = eraser.config
        if config.policy.read != "per-layer" or config.direction.kind != "refusal":
            raise InputError("only layers that read their own gate are fitted one after another, towards refusal")
        pairs = lab.pairs(config.direction.pgd)
        tensors = dict(eraser.tensors)
        for number, layer in enumerate(config.shift_layers):
            before = config.shift_layers[:number]
            so_far = Only(before)(Eraser(config, tensors), lab) if before else None
            with nullcontext() if so_far is None else so_far.attached(lab.model):
                statistics = _read(lab, pairs, layer)
            tensors |= _fitted(eraser, statistics, layer)
        return Eraser(config, tensors)


def _read(lab: Lab, pairs: AdversarialBatch, layer: int) -> Statistics:
    """What the model, as it is now, has to say at one layer."""
    points, parts = [HookPoint(layer)], lab.parts
    samples = {RETAIN: parts.retain} | {f"{FORGET}/{key}": rows for key, rows in parts.forget.items()}
    return statistics_of(gather(lab.model, samples, points) | lab.pair_states(pairs, points), [layer])


def _fitted(eraser: Eraser, statistics: Statistics, layer: int) -> dict[str, Tensor]:
    config = eraser.config
    gate = gates_from(statistics, config.gate, [layer])[layer]
    direction = directions_from(statistics, config.direction.kind, [layer])[layer]
    return {f"gate.{layer}.{name}": tensor.float() for name, tensor in gate.tensors.items()} | {
        f"direction.{layer}": direction.vector.float()
    }
