"""Changes of a fitted artifact: what a row of the ablation does to it without a new fit from the request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mllmeraser.erasure import DirectionSettings, Eraser
from mllmeraser.erasure.directions.kinds import Direction
from mllmeraser.erasure.fit.closed_form import directions_from, gates_from
from mllmeraser.erasure.states.collect import gather, statistics_of
from mllmeraser.erasure.states.statistics import FORGET, RETAIN
from mllmeraser.models import HookPoint
from mllmeraser.samples import InputError

if TYPE_CHECKING:
    from mllmeraser.studies.ablation.lab import Lab

BELOW_ALL = -1e9
"""A threshold below every score, also below the score of a position that a prompt does not have."""


class Edit(ABC):
    """A change of an artifact."""

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """The changed artifact; the lab provides what the change needs."""
        return self._edited(eraser, lab)

    @abstractmethod
    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser: ...


@dataclass(frozen=True)
class Strength(Edit):
    """Another strength."""

    value: float

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        return eraser.replace_config(strength=self.value)


@dataclass(frozen=True)
class Open(Edit):
    """A gate that is always open."""

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        return eraser.replace_config(threshold=BELOW_ALL)


@dataclass(frozen=True)
class Exchanged(Edit):
    """Another direction at the same layers (with `same_length` scaled to the old one's); gates and threshold stay."""

    direction: DirectionSettings
    same_length: bool = False

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        known = lab.directions(self.direction)
        chosen = {layer: known[layer] for layer in eraser.config.shift_layers}
        if self.same_length:
            chosen = {layer: _as_long(v, eraser.direction(layer)) for layer, v in chosen.items()}
        return exchanged(eraser, chosen, self.direction)


@dataclass(frozen=True)
class Shifted(Edit):
    """The same kind of direction at other layers."""

    layers: tuple[int, ...]

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        known = lab.directions(eraser.config.direction)
        return exchanged(eraser, {layer: known[layer] for layer in self.layers}, eraser.config.direction)


@dataclass(frozen=True)
class Only(Edit):
    """Some layers of an artifact that reads where it shifts."""

    layers: tuple[int, ...]

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        kept = {name: tensor for name, tensor in eraser.tensors.items() if layer_of(name) in (None, *self.layers)}
        return _changed(eraser, kept, read_layers=self.layers, shift_layers=self.layers)


@dataclass(frozen=True)
class Raised(Edit):
    """Tensors applied one block later than they were fitted, as if fitted on a block's input.

    The input of block l is the output of block l - 1. A gate or direction that the published code fits "at layer l" is
    therefore applied to a tensor that the fit has never seen.
    """

    gate: bool
    direction: bool

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        config, tensors = eraser.config, dict[str, Tensor]()
        up = {"gate": int(self.gate), "direction": int(self.direction), "share": int(self.direction)}
        for name, tensor in eraser.tensors.items():
            layer = layer_of(name)
            kind, _, rest = name.partition(".")
            part = rest.partition(".")[2]
            tensors[name if layer is None else f"{kind}.{layer + up[kind]}{part and '.' + part}"] = tensor
        reads, shifts = (
            tuple(layer + up[kind] for layer in layers if layer + up[kind] < config.num_layers)
            for kind, layers in (("gate", config.read_layers), ("direction", config.shift_layers))
        )
        if config.policy.read == "per-layer":
            reads = shifts = tuple(layer for layer in reads if layer in shifts)
        kept = {name: t for name, t in tensors.items() if layer_of(name) in (None, *reads, *shifts)}
        return _changed(eraser, kept, read_layers=reads, shift_layers=shifts)


@dataclass(frozen=True)
class Refitted(Edit):
    """Gate and direction of every layer fitted in order, each on states that the layers before have shifted.

    In a fit, all layers read the unsteered model, yet all but the first are applied to a steered one. This is for
    artifacts that read where they shift, with the direction `refusal`. The perturbed pictures are those of the bare
    model.
    """

    def _edited(self, eraser: Eraser, lab: Lab) -> Eraser:
        config, parts = eraser.config, lab.parts
        if config.policy.read != "per-layer" or config.direction.kind != "refusal":
            raise InputError("only per-layer gates with the direction refusal can be fitted layer after layer")
        pairs, tensors = lab.pairs(config.direction.pgd), dict(eraser.tensors)
        samples = {RETAIN: parts.retain} | {f"{FORGET}/{key}": rows for key, rows in parts.forget.items()}
        for number, layer in enumerate(config.shift_layers):
            before, points = config.shift_layers[:number], [HookPoint(layer)]
            so_far = Only(before)(Eraser(config, tensors), lab) if before else None
            with nullcontext() if so_far is None else so_far.attached(lab.model):
                states = gather(lab.model, samples, points) | lab.pair_states(pairs, points)
            statistics = statistics_of(states, [layer])
            gate = gates_from(statistics, config.gate, [layer])[layer]
            direction = directions_from(statistics, config.direction.kind, [layer])[layer]
            tensors |= {f"gate.{layer}.{name}": tensor.float() for name, tensor in gate.tensors.items()}
            tensors[f"direction.{layer}"] = direction.vector.float()
        return Eraser(config, tensors)


def exchanged(eraser: Eraser, directions: Mapping[int, Direction], settings: DirectionSettings) -> Eraser:
    """The artifact with other directions, including the subjects' shares if they have any."""
    tensors = {name: t for name, t in eraser.tensors.items() if name.partition(".")[0] not in ("direction", "share")}
    counts: tuple[int, ...] = ()
    for layer, direction in directions.items():
        tensors[f"direction.{layer}"] = direction.vector.float()
        if eraser.config.gate.per_subject and direction.shares:
            tensors[f"share.{layer}"] = torch.stack([share for _, share in direction.shares.values()]).float()
            counts = tuple(n for n, _ in direction.shares.values())
    layers = tuple(sorted(directions))
    reads = layers if eraser.config.policy.read == "per-layer" else eraser.config.read_layers
    changes = {"direction": settings, "read_layers": reads, "shift_layers": layers}
    return _changed(eraser, tensors, **changes, counts=counts or eraser.config.counts)


def layer_of(name: str) -> int | None:
    """The layer of a tensor of an artifact; None for tensors of no layer."""
    kind, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if kind in ("gate", "direction", "share") else None


def _as_long(direction: Direction, other: Tensor) -> Direction:
    factor = float(other.double().norm() / direction.vector.norm())
    shares = {key: (n, share * factor) for key, (n, share) in direction.shares.items()}
    return Direction(direction.base * factor, shares)


def _changed(eraser: Eraser, tensors: Mapping[str, Tensor], **changes: object) -> Eraser:
    return Eraser(eraser.config.model_copy(update=changes), tensors)
