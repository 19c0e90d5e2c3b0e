"""The `SteeringPlan`: all that steering needs of an eraser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mllmeraser.erasure.policy import Policy
from mllmeraser.models.turns import TurnFormat
from mllmeraser.samples.errors import InputError

Site = Literal["last", "text", "image"]
#: What the three read layers of the pooling `subject` read, first layer first: name, topic, face.
SUBJECT_SITES: tuple[Site, Site, Site] = ("text", "last", "image")


class LayerGate(Protocol):
    """The gates of all subjects at one layer, such as `erasure.gates.Gate`; pure tensor code."""

    def scores(self, states: Tensor) -> Tensor:
        """(n, subjects) scores of states (n, d), float32, on their device; no host synchronization."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LayerGate:
        """The same gates on another device or in another dtype."""


@dataclass(frozen=True)
class SteeringPlan:
    """Directions, gates and policy of one eraser, ready to be attached.

    Attributes:
        name: Rows select it by this; unique among the attached plans.
        read_layers: Layers of the gates behind a request's decision. A per-layer policy ignores them and reads each
            layer that it shifts.
        directions: Layer -> v (d,), for every shift layer.
        gates: Layer -> gates, for every read layer.
        strength: s >= 0 in h + s a v; 0 leaves the model bit-identical.
        threshold: A pooled score above it fires, if the phi of the policy is `"threshold"`.
        image_token: Id of the image placeholder, for policies that look for a person anywhere in the prompt.
        turns: Marks of the turns of a conversation. With them such a policy decides on the current question; without
            them it takes every prompt for one question.
        token_kinds: (vocabulary,) which tokens begin a name (see `models.wording`).
        reply: Tokens of the sentence that a policy with replies enforces; the last one ends the answer.
    """

    name: str
    read_layers: tuple[int, ...]
    shift_layers: tuple[int, ...]
    directions: Mapping[int, Tensor]
    gates: Mapping[int, LayerGate]
    policy: Policy
    strength: float
    threshold: float = 0.0
    image_token: int | None = None
    turns: TurnFormat | None = None
    token_kinds: Tensor | None = None
    reply: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a plan without its layers, or with a decision that is read after the first shift."""
        if not self.shift_layers:
            raise InputError(f"{self.name}: no layer to shift")
        if not self.strength >= 0.0:
            raise InputError(f"{self.name}: a strength is 0 or more, not {self.strength}")
        if self.policy.read == "request":
            if not self.read_layers:
                raise InputError(f"{self.name}: no layer to read the gate in")
            if max(self.read_layers) >= min(self.shift_layers):
                raise InputError(
                    f"{self.name}: the decision is read in layers {list(self.read_layers)}, which have to "
                    f"come before the first shifted layer, {min(self.shift_layers)}"
                )
        if self.policy.pooling == "subject" and (len(self.reads) != 3 or self.image_token is None):
            raise InputError(f"{self.name}: this policy reads three layers and needs the id of the image token")
        if self.policy.replies and not self.reply:
            raise InputError(f"{self.name}: this policy replies with a sentence, and there is none")
        for kind, have, need in (("direction", self.directions, self.shift_layers), ("gate", self.gates, self.reads)):
            missing = sorted(set(need) - set(have))
            if missing:
                raise InputError(f"{self.name}: no {kind} for layers {missing}")

    @property
    def reads(self) -> tuple[int, ...]:
        """Layers that are read: the shifted ones themselves under a per-layer policy. Sorted, each once."""
        layers = self.shift_layers if self.policy.read == "per-layer" else self.read_layers
        return tuple(sorted(set(layers)))

    @property
    def shifts(self) -> tuple[int, ...]:
        """Layers after which it shifts, sorted: none at strength 0, so that states stay bit-identical."""
        return tuple(sorted(set(self.shift_layers))) if self.strength > 0.0 and self.policy.shifts else ()

    def site(self, layer: int) -> Site:
        """What the gates of a read layer read."""
        if self.policy.pooling == "subject":
            return SUBJECT_SITES[self.reads.index(layer)]
        return "last"

    def plan(self, model: Any) -> SteeringPlan:
        """Itself, so that erasers and plans can be attached together."""
        return self


class Steerable(Protocol):
    """An eraser, or a plan."""

    def plan(self, model: Any) -> SteeringPlan:
        """The plan for `model`; an `ArtifactError` if it was made for another one."""


def check_plans(plans: Sequence[SteeringPlan], num_layers: int, width: int) -> None:
    """Check names, layers and widths of plans against a decoder."""
    if not plans:
        raise InputError("nothing to attach: give at least one eraser")
    names = [plan.name for plan in plans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two erasers are called {twice[0]!r}: names have to differ")
    for plan in plans:
        for layer in (*plan.reads, *plan.shift_layers):
            if not 0 <= layer < num_layers:
                raise InputError(f"{plan.name}: layer {layer} does not exist, the model has 0 to {num_layers - 1}")
        for layer, direction in plan.directions.items():
            if direction.shape != (width,):
                raise InputError(
                    f"{plan.name}: the direction of layer {layer} has shape {tuple(direction.shape)}, "
                    f"the model's width is {width}"
                )
