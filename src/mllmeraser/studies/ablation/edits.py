"""Changes of a finished artifact: what a row of an ablation does to it where no new fit is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.kinds import Direction
from mllmeraser.erasure.settings import DirectionSettings

if TYPE_CHECKING:
    from mllmeraser.studies.ablation.lab import Lab

BELOW_ALL = -1e9
"""A threshold that every score exceeds, also that of a place which a prompt does not have."""


class Edit(Protocol):
    """From one artifact to another; `lab` has what is needed for it."""

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """The changed artifact."""


@dataclass(frozen=True)
class Strength:
    """Another strength."""

    value: float

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        return eraser.replace_config(strength=self.value)


@dataclass(frozen=True)
class Open:
    """A gate that is always open."""

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        return eraser.replace_config(threshold=BELOW_ALL)


@dataclass(frozen=True)
class Exchanged:
    """Another direction at the same layers; gates and threshold stay.

    Attributes:
        direction: Which.
        same_length: Whether it is given, layer by layer, the length of the one that was there.
    """

    direction: DirectionSettings
    same_length: bool = False

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        found = lab.directions(self.direction)
        chosen = {layer: found[layer] for layer in eraser.config.shift_layers}
        if self.same_length:
            chosen = {layer: _as_long(v, eraser.direction(layer)) for layer, v in chosen.items()}
        return exchanged(eraser, chosen, self.direction)


@dataclass(frozen=True)
class Shifted:
    """The same kind of direction at other layers."""

    layers: tuple[int, ...]

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        found = lab.directions(eraser.config.direction)
        return exchanged(eraser, {layer: found[layer] for layer in self.layers}, eraser.config.direction)


@dataclass(frozen=True)
class Only:
    """Some of the layers of an artifact that reads where it shifts."""

    layers: tuple[int, ...]

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        kept = {name: tensor for name, tensor in eraser.tensors.items() if layer_of(name) in (None, *self.layers)}
        return _changed(eraser, kept, read_layers=self.layers, shift_layers=self.layers)


@dataclass(frozen=True)
class Raised:
    """Tensors used one block later than where they were fitted: what comes of fitting on a block's input.

    The input of block l is the output of block l - 1, so a gate or direction that the published code fits "at layer l"
    has never seen the tensor that it is applied to.
    """

    gate: bool
    direction: bool

    def __call__(self, eraser: Eraser, lab: Lab) -> Eraser:
        """See the class."""
        config, tensors = eraser.config, dict[str, Tensor]()
        up = {"gate": int(self.gate), "direction": int(self.direction), "share": int(self.direction)}
        for name, tensor in eraser.tensors.items():
            layer = layer_of(name)
            kind, _, rest = name.partition(".")
            part = rest.partition(".")[2]
            tensors[name if layer is None else f"{kind}.{layer + up[kind]}{part and '.' + part}"] = tensor
        exists = range(config.num_layers)
        reads = tuple(layer + up["gate"] for layer in config.read_layers if layer + up["gate"] in exists)
        shifts = tuple(layer + up["direction"] for layer in config.shift_layers if layer + up["direction"] in exists)
        if config.policy.read == "per-layer":
            reads = shifts = tuple(layer for layer in reads if layer in shifts)
        kept = {name: t for name, t in tensors.items() if layer_of(name) in (None, *reads, *shifts)}
        return _changed(eraser, kept, read_layers=reads, shift_layers=shifts)


def exchanged(eraser: Eraser, directions: Mapping[int, Direction], settings: DirectionSettings) -> Eraser:
    """The artifact with these directions in place of its own, with the subjects' shares in them where they have any."""
    tensors = {name: t for name, t in eraser.tensors.items() if name.partition(".")[0] not in ("direction", "share")}
    counts: tuple[int, ...] = ()
    for layer, direction in directions.items():
        tensors[f"direction.{layer}"] = direction.vector.float()
        if eraser.config.gate.per_subject and direction.shares:
            tensors[f"share.{layer}"] = torch.stack([share for _, share in direction.shares.values()]).float()
            counts = tuple(n for n, _ in direction.shares.values())
    layers = tuple(sorted(directions))
    reads = layers if eraser.config.policy.read == "per-layer" else eraser.config.read_layers
    return _changed(
        eraser,
        tensors,
        direction=settings,
        read_layers=reads,
        shift_layers=layers,
        counts=counts or eraser.config.counts,
    )


def layer_of(name: str) -> int | None:
    """The layer that a tensor of an artifact belongs to; None for those of none."""
    kind, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if kind in ("gate", "direction", "share") else None


def _as_long(direction: Direction, other: Tensor) -> Direction:
    factor = float(other.double().norm() / direction.vector.norm())
    shares = {key: (n, share * factor) for key, (n, share) in direction.shares.items()}
    return Direction(direction.base * factor, shares)


def _changed(eraser: Eraser, tensors: Mapping[str, Tensor], **changes: object) -> Eraser:
    return Eraser(eraser.config.model_copy(update=changes), tensors)


def lengths(eraser: Eraser, layers: Iterable[int] | None = None) -> dict[str, float]:
    """Norm of the direction, by layer."""
    chosen = eraser.config.shift_layers if layers is None else layers
    return {str(layer): round(float(eraser.direction(layer).norm()), 4) for layer in chosen}
