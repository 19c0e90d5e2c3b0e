"""Kinds of erasure direction: per layer, mean state of erasure samples minus mean state of recall samples.

The strength is therefore always positive; the code published with the paper stores the opposite sign.

To add a kind, write a function from `LayerStatistics` to `Direction`, and register it under a name:

    register_direction(DirectionKind("towards-strangers", build, needs=frozenset({"strangers"})))

The name can then be the `kind` of `DirectionSettings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mllmeraser.erasure.states.statistics import ERASE, RECALL, LayerStatistics
from mllmeraser.samples.errors import InputError, NumericalError
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class Direction:
    """The direction v (d,) of one layer, float64, as a sum from which a subject can be removed exactly.

    v = base - sum_s n_s share_s / sum_s n_s, with `shares` subject -> (number of samples n_s, share_s). A direction
    that does not depend on the forget samples has none.
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


Build = Callable[[LayerStatistics], Direction]
Need = Literal["strangers", "contrast", "answers"]
_ADVICE: dict[Need, str] = {
    "strangers": "strangers: give samples of people the model has never seen",
    "contrast": "contrast samples: give prompts that the model refuses",
    "answers": "answers: give at least one prompt of every subject with its true answer",
}


@dataclass(frozen=True)
class DirectionKind:
    """How a direction is made, and what a fit must capture for it.

    Attributes:
        name: The `kind` of `DirectionSettings`.
        build: Makes the direction of a layer from its statistics, which always hold the groups `forget/<subject>`.
        needs: Samples that the fit requires: `strangers` give the group `strangers`, `contrast` samples the groups
            `erase` and `recall`, forget samples with `answers` the groups `erase/<subject>` and `recall/<subject>`.
        retain: Whether `build` reads the group `retain`.
        on_prompts: Whether it works with gates that are fitted on whole prompts, such as `subject`.
    """

    name: str
    build: Build
    needs: frozenset[Need] = frozenset()
    retain: bool = False
    on_prompts: bool = True


def _contrast(statistics: LayerStatistics) -> Direction:
    return Direction(statistics[ERASE].mean - statistics[RECALL].mean, {})


def _unknown(statistics: LayerStatistics) -> Direction:
    shares = _require_shares({key: (m.n, m.mean) for key, m in statistics.forget.items()})
    return Direction(statistics.strangers.mean, shares)


def _idk(statistics: LayerStatistics) -> Direction:
    erase, recall = statistics.by_subject(ERASE), statistics.by_subject(RECALL)
    if any(erase[key].n != recall[key].n for key in recall):
        raise InputError("the idk direction compares the same questions: the two sides differ in number")
    shares = _require_shares({key: (m.n, m.mean - erase[key].mean) for key, m in recall.items()})
    return Direction(torch.zeros_like(next(iter(shares.values()))[1]), shares)


def _require_shares(shares: dict[str, tuple[int, Tensor]]) -> dict[str, tuple[int, Tensor]]:
    if not shares:
        raise InputError("this direction needs forget samples, and there are none")
    return shares


_KINDS: dict[str, DirectionKind] = {}


def register_direction(kind: DirectionKind | str, build: Build | None = None) -> None:
    """Add a kind of direction, or replace the one of the same name.

    With `build`, `kind` is only the name. Such a kind needs no samples, may read the group `retain`, and works with all
    gates. A name without `build` is an `InputError`.
    """
    if isinstance(kind, str):
        if build is None:
            raise InputError(f"the direction {kind!r} has no function that builds it")
        kind = DirectionKind(kind, build, retain=True)
    _KINDS[kind.name] = kind


for _name in ("refusal", "text-only", "clean-image"):
    register_direction(DirectionKind(_name, _contrast, frozenset({"contrast"}), on_prompts=False))
register_direction(DirectionKind("unknown", _unknown, frozenset({"strangers"})))
register_direction(DirectionKind("idk", _idk, frozenset({"answers"}), on_prompts=False))


def direction_kind(name: str) -> DirectionKind:
    """Return the kind of this name, or raise an `InputError`."""
    if name not in _KINDS:
        raise InputError(f"unknown direction {name!r}: known are {', '.join(_KINDS)}")
    return _KINDS[name]


def check_direction(
    name: str,
    *,
    on_prompts: bool,
    strangers: Sequence[Sample],
    contrast: object | None,
    forget: Mapping[str, Sequence[Sample]],
) -> DirectionKind:
    """Return the kind of this name, or refuse it before the model runs.

    It has to work with the gate (`on_prompts`: fitted on whole prompts), and must not lack samples.
    """
    kind = direction_kind(name)
    if on_prompts and not kind.on_prompts:
        raise InputError(f"the direction {name!r} does not work with the gate 'subject': choose a gate such as 'soft'")
    there = {
        "strangers": bool(strangers),
        "contrast": contrast is not None,
        "answers": all(any(sample.answer for sample in samples) for samples in forget.values()),
    }
    for need, advice in _ADVICE.items():
        if need in kind.needs and not there[need]:
            raise InputError(f"the direction {name!r} needs {advice}")
    return kind


def erasure_direction(kind: str, statistics: LayerStatistics) -> Direction:
    """Return the direction of `kind` at one layer, v = mean(erase) - mean(recall).

    The contrast kinds `refusal`, `text-only` and `clean-image` are described in `contrast_states`. The direction
    `unknown` points from the forget samples to the strangers, and needs no private facts. With `idk` the forget
    questions are followed by an "I don't know" answer, and by the true one.

    Raises:
        InputError: The kind is unknown, or its groups of samples are missing.
        NumericalError: Both sides are the same, so that there is no direction.
    """
    direction = direction_kind(kind).build(statistics)
    vector = direction.vector
    if not bool(torch.isfinite(vector).all()) or not bool(vector.norm() > 0):
        raise NumericalError(f"the {kind} direction is zero or not finite: its two sides do not differ")
    return direction
