"""Moments of all groups of samples at all captured layers: all that a closed-form fit needs.

Statistics of several data sets are merged, and a subject is removed, without a new capture. A fit on the result
equals a fit on the data itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mllmeraser.erasure.states.moments import Moments
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import InputError

RETAIN = "retain"
STRANGERS = "strangers"
ERASE = "erase"
RECALL = "recall"
FORGET = "forget"
BY_SUBJECT = "/"


@dataclass(frozen=True)
class LayerStatistics:
    """Moments of every group of samples at one layer.

    Group names are `retain`, `strangers`, `erase` and `recall` (contrast samples). The groups of one subject are
    `forget/<subject>`, and for the direction `idk` also `erase/<subject>` and `recall/<subject>`.
    """

    groups: Mapping[str, Moments] = field(default_factory=dict)

    def __getitem__(self, group: str) -> Moments:
        if group not in self.groups:
            raise InputError(f"no samples of the group {group!r} were captured; there are {sorted(self.groups)}")
        return self.groups[group]

    @property
    def retain(self) -> Moments:
        """Moments of the retain states."""
        return self[RETAIN]

    @property
    def strangers(self) -> Moments:
        """Moments of the states of people whom the model has never seen."""
        return self[STRANGERS]

    @property
    def forget(self) -> dict[str, Moments]:
        """Moments of the forget states by subject, in the order of the request."""
        return self.by_subject(FORGET)

    def by_subject(self, role: str) -> dict[str, Moments]:
        """Return the moments of the groups `<role>/<subject>` by subject."""
        prefix = role + BY_SUBJECT
        return {name[len(prefix) :]: m for name, m in self.groups.items() if name.startswith(prefix)}

    def merge(self, other: LayerStatistics) -> LayerStatistics:
        """Add the two group by group."""
        both = {name: self.groups[name] + moments for name, moments in other.groups.items() if name in self.groups}
        return LayerStatistics({**self.groups, **other.groups, **both})

    def without(self, subject: str) -> LayerStatistics:
        """Leave out every group of `subject`."""
        return LayerStatistics({k: m for k, m in self.groups.items() if k.partition(BY_SUBJECT)[2] != subject})


@dataclass(frozen=True)
class Statistics:
    """Statistics of all captured layers of one request. Subjects appear by their opaque keys."""

    layers: Mapping[HookPoint, LayerStatistics] = field(default_factory=dict)

    def __getitem__(self, hookpoint: HookPoint | int) -> LayerStatistics:
        key = HookPoint(hookpoint) if isinstance(hookpoint, int) else hookpoint
        if key not in self.layers:
            raise InputError(f"no statistics of layer {key.layer}: captured are {[p.layer for p in self.layers]}")
        return self.layers[key]

    def __iter__(self) -> Iterator[HookPoint]:
        return iter(self.layers)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Keys of the subjects, in the order of the request."""
        return tuple(next(iter(self.layers.values()), LayerStatistics()).forget)

    def merge(self, other: Statistics) -> Statistics:
        """Return the statistics of both data sets together; an `InputError` if their layers differ."""
        if self.layers and other.layers and set(self.layers) != set(other.layers):
            raise InputError("statistics of different layers do not add up")
        empty = LayerStatistics()
        points = sorted({*self.layers, *other.layers})
        return Statistics({p: self.layers.get(p, empty).merge(other.layers.get(p, empty)) for p in points})

    def without(self, subject: str) -> Statistics:
        """Return the statistics of the request without `subject` (its key)."""
        if subject not in self.subjects:
            raise InputError(f"no subject {subject!r} in these statistics")
        return Statistics({p: layer.without(subject) for p, layer in self.layers.items()})
