"""Moments of all groups of samples at all captured layers: all that a closed-form fit needs.

Statistics of several data sets are merged, and a subject is removed, without a new capture. A fit on the result
equals a fit on the data itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mllmeraser.erasure.states.moments import Moments
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import ArtifactError, InputError
from mllmeraser.samples.files import whole_file

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
        merged = dict(self.groups)
        for name, moments in other.groups.items():
            merged[name] = merged[name] + moments if name in merged else moments
        return LayerStatistics(merged)

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
        """Return the statistics of both data sets together.

        Raises:
            InputError: They were captured at different layers.
        """
        if self.layers and other.layers and set(self.layers) != set(other.layers):
            raise InputError("statistics of different layers do not add up")
        empty = LayerStatistics()
        points = sorted({*self.layers, *other.layers})
        return Statistics({p: self.layers.get(p, empty).merge(other.layers.get(p, empty)) for p in points})

    def without(self, subject: str) -> Statistics:
        """Return the statistics of the request without `subject` (its key).

        Raises:
            InputError: There is no such subject.
        """
        if subject not in self.subjects:
            raise InputError(f"no subject {subject!r} in these statistics")
        return Statistics({p: layer.without(subject) for p, layer in self.layers.items()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file in one step. It holds float64 sums of states and opaque keys only."""
        target = Path(path)
        names: dict[str, tuple[int, str]] = {}
        tensors: dict[str, Tensor] = {}
        for point, layer in self.layers.items():
            for group, moments in layer.groups.items():
                stem = f"m{len(names)}"
                names[stem] = (point.layer, group)
                tensors.update({f"{stem}.{k}": v for k, v in moments.tensors().items()})
        with whole_file(target, force=True) as partial:
            save_file(tensors, partial, metadata={"groups": json.dumps(names)})
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Statistics:
        """Read a file that `save` wrote.

        Raises:
            ArtifactError: The file is missing, truncated or of another kind.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                names = json.loads((file.metadata() or {})["groups"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return cls(_layers(names, tensors))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: not a readable statistics file ({error})") from error


def _layers(names: Mapping[str, Iterable[object]], tensors: Mapping[str, Tensor]) -> dict[HookPoint, LayerStatistics]:
    groups: dict[HookPoint, dict[str, Moments]] = {}
    for stem, (layer, group) in names.items():
        moments = Moments(int(tensors[f"{stem}.n"].item()), tensors[f"{stem}.total"], tensors.get(f"{stem}.gram"))
        groups.setdefault(HookPoint(int(str(layer))), {})[str(group)] = moments
    return {point: LayerStatistics(named) for point, named in groups.items()}
