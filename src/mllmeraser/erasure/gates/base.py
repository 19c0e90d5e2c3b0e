"""The Gate: how much a state belongs to a subject, for every subject of an eraser at one HookPoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from mllmeraser.erasure.policy import Policy
from mllmeraser.samples.errors import ArtifactError, InputError, NumericalError

GateKind = Literal["hard", "soft", "quadratic", "neural", "subject"]


def _linear(t: Mapping[str, Tensor], h: Tensor) -> Tensor:
    return h @ t["weight"].T


def _quadratic(t: Mapping[str, Tensor], h: Tensor) -> Tensor:
    projected = torch.einsum("nd,skd->nsk", h, t["factor"]) - t["centre"]
    return h @ t["weight"].T + (projected.square() * t["curvature"]).sum(-1) + t["bias"]


def _neural(t: Mapping[str, Tensor], h: Tensor) -> Tensor:
    hidden = torch.relu(torch.einsum("nd,skd->nsk", h, t["hidden"]) + t["hidden_bias"])
    return (hidden * t["out"]).sum(-1) + t["out_bias"]


SUBJECTS_AT_ONCE = 64
SHORTEST = 1e-12
"""Length below which a state has no direction."""
RIVALRY = 4.0
"""What a state loses for every unit of cosine by which a retained person fits it better than a subject."""
VETO = 16.0
"""What a state loses for every unit by which it lies on a look-alike's side; the two means are 1 apart."""


def _identity(t: Mapping[str, Tensor], h: Tensor) -> Tensor:
    projected = torch.addmm(-(t["centre"] @ t["projection"]), h, t["projection"])
    scores = projected @ t["weight"].T
    nearest = _nearest(t, projected)
    if nearest:  # of products as of cosines: all of a state are longer than its cosines by the same factor
        scores = rivalry(scores, reduce(torch.maximum, nearest))
    scores = scores / projected.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
    if "apart" in t:
        reached = (h @ t["apart"].flatten(0, 1).T).unflatten(-1, t["least"].shape) - t["least"]
        scores = torch.add(scores, reached.amin(-1).clamp_max(0.0), alpha=VETO)
    return scores


def _nearest(t: Mapping[str, Tensor], projected: Tensor) -> list[Tensor]:
    """(n, subjects) products with the nearest of everybody's rivals, and of each subject's own, where there are any."""
    found = []
    if "cohort" in t:
        products = projected @ t["cohort"].T
        if "competes" in t:  # not all with everybody; some subjects at a time, for (n, subjects, rivals) is large
            parts = t["competes"].split(SUBJECTS_AT_ONCE)
            own = [torch.where(some > 0, products[:, None, :], -torch.inf).amax(-1) for some in parts]
            found.append(torch.cat(own, dim=-1))
        else:
            found.append(products.amax(-1, keepdim=True))
    if "rivals" in t:
        rivals = t["rivals"]
        found.append((projected @ rivals.flatten(0, 1).T).unflatten(-1, rivals.shape[:2]).amax(-1))
    return found


def rivalry(scores: Tensor, nearest: Tensor) -> Tensor:
    """Cosines with a subject, less `RIVALRY` times that by which the nearest retained person fits better.

    Look-alikes are told apart by who fits best, not by how well.
    """
    return torch.add(scores, (scores - nearest).clamp_max(0.0), alpha=RIVALRY)


#: Kind -> (names of its tensors, score of states (n, d) as (n, subjects)).
FORMULAS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Tensor], Tensor], Tensor]]] = {
    "hard": (("weight",), _linear),
    "soft": (("weight",), _linear),
    "quadratic": (("weight", "factor", "centre", "curvature", "bias"), _quadratic),
    "neural": (("hidden", "hidden_bias", "out", "out_bias"), _neural),
    "subject": (("weight", "centre", "projection"), _identity),
}
#: Tensors that serve all subjects at once and have no subject axis.
SHARED: dict[str, tuple[str, ...]] = {"subject": ("centre", "projection", "cohort")}
HALF: dict[str, tuple[str, ...]] = {"subject": ("projection", "cohort", "rivals", "apart")}
"""Tensors whose values fit into float16 exactly and are stored so: the largest, and theirs is not the last digit."""
AFFINE = ("scale", "offset")


@dataclass(frozen=True)
class Gate:
    """The gates of all subjects at one HookPoint. Every tensor has the subjects in front.

    `hard` and `soft` hold `weight` (S, d), the vectors g: raw score h . g. `quadratic` adds a low-rank
    quadratic form, `neural` is a perceptron per subject. `scale` and `offset` (S,) are the affine map by
    which calibration makes the scores of different subjects comparable; they start at 1 and 0.
    """

    kind: GateKind
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Refuse unknown kinds and missing tensors; fill in the neutral affine map."""
        if self.kind not in FORMULAS:
            raise InputError(f"unknown gate {self.kind!r}: known are {', '.join(FORMULAS)}")
        missing = [name for name in FORMULAS[self.kind][0] if name not in self.tensors]
        if missing:
            raise ArtifactError(f"the {self.kind} gate lacks its tensors {', '.join(missing)}")
        first = self.tensors[FORMULAS[self.kind][0][0]]
        neutral = {"scale": first.new_ones(first.shape[0]), "offset": first.new_zeros(first.shape[0])}
        object.__setattr__(self, "tensors", {**neutral, **self.tensors})

    @property
    def subjects(self) -> int:
        """Number S of subjects."""
        return self.tensors["scale"].shape[0]

    @property
    def width(self) -> int:
        """Length d of the states it reads."""
        if self.kind == "subject":
            return self.tensors["projection"].shape[0]
        return self.tensors[FORMULAS[self.kind][0][0]].shape[-1]

    def raw(self, states: Tensor) -> Tensor:
        """(n, S) scores of states (n, d) before the affine map; in the gate's dtype."""
        return FORMULAS[self.kind][1](self.tensors, states.to(self.tensors["scale"]))

    def scores(self, states: Tensor) -> Tensor:
        """(n, S) comparable scores of states (n, d): scale * raw + offset."""
        return torch.addcmul(self.tensors["offset"], self.raw(states), self.tensors["scale"])

    def score(self, states: Tensor) -> Tensor:
        """(n,) maximum over the subjects of `scores`."""
        return self.scores(states).amax(-1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gate:
        """The same gate on another device or in another dtype."""
        return Gate(self.kind, {k: v.to(device=device, dtype=dtype) for k, v in self.tensors.items()})

    def select(self, rows: Sequence[int]) -> Gate:
        """The gate of the subjects at `rows` alone, in that order."""
        shared = SHARED.get(self.kind, ())
        return Gate(self.kind, {k: v if k in shared else v[list(rows)] for k, v in self.tensors.items()})

    def affine(self, scale: Tensor, offset: Tensor) -> Gate:
        """The same gate with another affine map, both (S,)."""
        like = self.tensors["scale"]
        return Gate(self.kind, {**self.tensors, "scale": scale.to(like), "offset": offset.to(like)})

    @classmethod
    def stack(cls, gates: Sequence[Gate]) -> Gate:
        """One gate for the subjects of all `gates`, in order.

        Raises:
            InputError: If there are none, or they are of different kinds.
        """
        if len({gate.kind for gate in gates}) != 1:
            raise InputError("gates of one kind, at least one, can be put together")
        if gates[0].kind in SHARED:
            raise InputError(f"{gates[0].kind} gates are fitted together: there is nothing to put together")
        names = gates[0].tensors
        return cls(gates[0].kind, {name: torch.cat([gate.tensors[name] for gate in gates]) for name in names})


def pooled(gates: Mapping[int, Gate], states: Mapping[int, Tensor], policy: Policy) -> Tensor:
    """(n, S) scores of one decision from states (n, d) by layer.

    The mean over layers, or the maximum where the policy compares every layer with the threshold by itself.
    """
    scores = torch.stack([gate.scores(states[layer]) for layer, gate in gates.items()])
    every_layer = policy.read == "per-layer" and policy.phi == "threshold"
    return scores.amax(0) if every_layer else scores.mean(0)


def finite(gate: Gate, advice: str) -> Gate:
    """Return `gate` if all its tensors are finite.

    Raises:
        NumericalError: If not; the message ends in `advice`.
    """
    if not all(bool(torch.isfinite(t).all()) for t in gate.tensors.values()):
        raise NumericalError(f"the {gate.kind} gate came out as NaN or infinite: {advice}")
    return gate
