"""The erasure direction: per layer, mean state of erasure samples minus mean state of recall samples.

The strength is therefore always positive. (The published code stores the opposite sign and steers with
negative strengths.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mllmeraser.erasure.states.statistics import ERASE, RECALL, LayerStatistics, Moments
from mllmeraser.samples.errors import InputError, NumericalError

DirectionKind = Literal["refusal", "unknown", "idk", "text-only", "clean-image"]
DIRECTION_KINDS: tuple[str, ...] = get_args(DirectionKind)
CONTRAST_KINDS = frozenset({"refusal", "text-only", "clean-image"})


@dataclass(frozen=True)
class Direction:
    """One layer's direction, split so that a subject can be taken out of it exactly.

    v = base - sum_s n_s share_s / sum_s n_s. Directions that do not depend on the forget samples have no
    shares.

    Attributes:
        base: (d,) float64, the part that no subject has a share in.
        shares: Subject -> (number of samples, (d,) float64 share).
    """

    base: Tensor
    shares: Mapping[str, tuple[int, Tensor]]

    @property
    def vector(self) -> Tensor:
        """(d,) float64, the direction v itself."""
        if not self.shares:
            return self.base
        total = sum(n for n, _ in self.shares.values())
        return self.base - torch.stack([n * share for n, share in self.shares.values()]).sum(0) / total


def _contrast(statistics: LayerStatistics) -> Direction:
    return Direction(statistics[ERASE].mean - statistics[RECALL].mean, {})


def _unknown(statistics: LayerStatistics) -> Direction:
    shares = {key: (m.n, m.mean) for key, m in statistics.forget.items()}
    return Direction(statistics.strangers.mean, _require_shares(shares))


def _idk(statistics: LayerStatistics) -> Direction:
    erase, recall = statistics.by_subject(ERASE), statistics.by_subject(RECALL)
    shares = {key: _paired_share(erase[key], recall[key]) for key in recall}
    _require_shares(shares)
    return Direction(torch.zeros_like(next(iter(shares.values()))[1]), shares)


def _paired_share(erase: Moments, recall: Moments) -> tuple[int, Tensor]:
    if erase.n != recall.n:
        raise InputError("the idk direction compares the same questions: the two sides differ in number")
    return recall.n, recall.mean - erase.mean


def _require_shares(shares: dict[str, tuple[int, Tensor]]) -> dict[str, tuple[int, Tensor]]:
    if not shares:
        raise InputError("this direction needs forget samples, and there are none")
    return shares


_BUILDERS: dict[str, Callable[[LayerStatistics], Direction]] = {
    "refusal": _contrast,
    "text-only": _contrast,
    "clean-image": _contrast,
    "unknown": _unknown,
    "idk": _idk,
}


_FROM_OUTSIDE: set[str] = set()


def register_direction(kind: str, build: Callable[[LayerStatistics], Direction]) -> None:
    """Add a kind of direction: `build` makes it from the statistics of one layer."""
    _BUILDERS[kind] = build
    _FROM_OUTSIDE.add(kind)


def may_need_retain(kind: str) -> bool:
    """Whether a direction may be made of retain samples, too: none of those here is, one from outside may be."""
    return kind in _FROM_OUTSIDE


def erasure_direction(kind: str, statistics: LayerStatistics) -> Direction:
    """The direction of `kind` at one layer, v = mean(erase) - mean(recall).

    `refusal`, `text-only`, `clean-image`: groups `erase` and `recall`, the contrast samples. `unknown`:
    strangers against the forget samples; the private facts are never needed. `idk`: groups `erase/<subject>`
    and `recall/<subject>`, the forget questions followed by an "I don't know" answer and by the true one.

    Raises:
        InputError: If the kind is unknown or its groups of samples are missing.
        NumericalError: If both sides are the same, so that there is no direction.
    """
    if kind not in _BUILDERS:
        raise InputError(f"unknown direction {kind!r}: known are {', '.join(_BUILDERS)}")
    direction = _BUILDERS[kind](statistics)
    vector = direction.vector
    if not bool(torch.isfinite(vector).all()) or not bool(vector.norm() > 0):
        raise NumericalError(f"the {kind} direction is zero or not finite: its two sides do not differ")
    return direction
