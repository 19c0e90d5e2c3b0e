"""Additive sufficient statistics: everything a closed-form eraser needs to know about its states.

All sums are float64. CaptureCheckpoint of a data set are merged by `+`, a revoked subject is dropped, and nothing is
recomputed: a fit from merged or reduced statistics equals a fit on the data itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import ArtifactError, InputError, NumericalError

RETAIN = "retain"
STRANGERS = "strangers"
ERASE = "erase"
RECALL = "recall"
FORGET = "forget"
BY_SUBJECT = "/"


def require_finite(states: Tensor, what: str) -> Tensor:
    """Return `states` unchanged if every entry is finite.

    Raises:
        NumericalError: If there is a NaN or an infinity; `what` names the tensor in the message.
    """
    if not bool(torch.isfinite(states).all()):
        raise NumericalError(f"{what} contain NaN or infinite values: run the model in float32 or bfloat16")
    return states


def gram_of(rows: Tensor) -> Tensor:
    """(d, d) float64 rows^T rows of (n, d), exactly symmetric, on the CPU; computed where the rows are.

    On the CPU by numpy: of a matrix times its own transpose it has BLAS compute one triangle alone (syrk), half the
    work.
    """
    rows = rows.double().contiguous()
    if rows.device.type != "cpu":
        product = (rows.T @ rows).cpu()
        return (product + product.T) / 2
    array = rows.numpy()
    return torch.from_numpy(array.T @ array)


@dataclass(frozen=True)
class Moments:
    """Count, sum and second moment of a set of states (rows).

    Attributes:
        n: Number of states.
        total: (d,) float64, the sum `m` of the states.
        gram: (d, d) float64, the sum `C` of h^T h, uncentred; None where only means are ever needed, or the rows
            are kept.
        rows: (n, d) the states themselves, where they are fewer than dimensions and so smaller than their sum of
            squares; None elsewhere.
    """

    n: int
    total: Tensor
    gram: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def from_states(cls, states: Tensor, *, gram: bool = True) -> Moments:
        """Moments of `states` (n, d); `gram=False` keeps the sum alone.

        Raises:
            InputError: If `states` is not a matrix.
            NumericalError: If a state is not finite.
        """
        if states.ndim != 2:
            raise InputError(f"states are a matrix (n, d), not of shape {tuple(states.shape)}")
        kept = require_finite(states, "states").detach().cpu()
        rows = kept.double()
        if gram and rows.shape[0] < rows.shape[1]:
            return cls(rows.shape[0], rows.sum(0), rows=kept.clone())
        return cls(rows.shape[0], rows.sum(0), gram_of(rows) if gram else None)

    @classmethod
    def zeros(cls, width: int, *, gram: bool = True) -> Moments:
        """Moments of no states of `width` entries: the neutral element of `+`."""
        square = torch.zeros(width, width, dtype=torch.float64) if gram else None
        return cls(0, torch.zeros(width, dtype=torch.float64), square)

    @property
    def width(self) -> int:
        """Length d of a state."""
        return self.total.shape[0]

    @property
    def mean(self) -> Tensor:
        """(d,) float64 mean state.

        Raises:
            InputError: If there are no states.
        """
        if self.n == 0:
            raise InputError("there is no mean of no states")
        return self.total / self.n

    @property
    def second(self) -> Tensor:
        """(d, d) float64 sum of h^T h.

        Raises:
            InputError: If only the sum was kept.
        """
        if self.rows is not None:
            return gram_of(self.rows)
        if self.gram is None:
            raise InputError("these moments hold means only: capture this layer as a read layer")
        return self.gram

    @property
    def squared(self) -> bool:
        """Whether the second moment is known, not the mean alone."""
        return self.gram is not None or self.rows is not None

    def covariance(self, shrink: float = 0.0) -> Tensor:
        """(d, d) covariance about the mean, shrunk: (1 - shrink) S + shrink tr(S)/d I.

        Raises:
            InputError: If there are no states or `shrink` is outside [0, 1].
        """
        if not 0.0 <= shrink <= 1.0:
            raise InputError(f"shrink lies in [0, 1], not {shrink}")
        mean = self.mean
        centred = self.second / self.n - torch.outer(mean, mean)
        centred = (centred + centred.T) / 2
        level = centred.diagonal().mean().clamp_min(0.0)
        return (1.0 - shrink) * centred + shrink * level * torch.eye(self.width, dtype=torch.float64)

    def __add__(self, other: Moments) -> Moments:
        return self._combine(other, 1)

    def __sub__(self, other: Moments) -> Moments:
        if other.n > self.n:
            raise InputError(f"cannot take {other.n} states out of {self.n}")
        return self._combine(other, -1)

    def _combine(self, other: Moments, sign: int) -> Moments:
        if self.width != other.width:
            raise InputError(f"states of width {self.width} and {other.width} do not add up")
        if self.squared != other.squared:
            raise InputError("moments with and without second moments do not add up")
        n, total = self.n + sign * other.n, self.total + sign * other.total
        if sign > 0 and n < self.width and self.rows is not None and other.rows is not None:
            return Moments(n, total, rows=torch.cat([self.rows, other.rows]))
        return Moments(n, total, self.second + sign * other.second if self.squared else None)

    def tensors(self) -> dict[str, Tensor]:
        """The moments as named tensors, for safetensors: sums alone, never the states themselves."""
        named = {"n": torch.tensor([self.n], dtype=torch.int64), "total": self.total.contiguous()}
        return {**named, "gram": self.second.contiguous()} if self.squared else named


@dataclass(frozen=True)
class LayerStatistics:
    """Moments of every group of samples at one HookPoint.

    Group names are `retain`, `strangers`, `erase` and `recall` (contrast samples), and `<role>/<subject>` for
    what belongs to one subject: `forget/...`, and for the `idk` direction `erase/...` and `recall/...`.
    """

    groups: Mapping[str, Moments] = field(default_factory=dict)

    def __getitem__(self, group: str) -> Moments:
        if group not in self.groups:
            raise InputError(f"no samples of the group {group!r} were captured; there are {sorted(self.groups)}")
        return self.groups[group]

    def __contains__(self, group: object) -> bool:
        return group in self.groups

    @property
    def retain(self) -> Moments:
        """Moments of the retain states."""
        return self[RETAIN]

    @property
    def strangers(self) -> Moments:
        """Moments of the states of people the model has never seen."""
        return self[STRANGERS]

    @property
    def forget(self) -> dict[str, Moments]:
        """Moments of the forget states by subject, in the order of the request."""
        return self.by_subject(FORGET)

    def by_subject(self, role: str) -> dict[str, Moments]:
        """Moments of the groups `<role>/<subject>` by subject."""
        prefix = role + BY_SUBJECT
        return {name[len(prefix) :]: m for name, m in self.groups.items() if name.startswith(prefix)}

    def merge(self, other: LayerStatistics) -> LayerStatistics:
        """Group-wise sum; a group that only one side has is taken over."""
        merged = dict(self.groups)
        for name, moments in other.groups.items():
            merged[name] = merged[name] + moments if name in merged else moments
        return LayerStatistics(merged)

    def without(self, subject: str) -> LayerStatistics:
        """The same without any group of `subject`."""
        return LayerStatistics({k: m for k, m in self.groups.items() if k.partition(BY_SUBJECT)[2] != subject})


@dataclass(frozen=True)
class Statistics:
    """Statistics of every captured HookPoint of one request. Subjects appear by their opaque keys."""

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
        first = next(iter(self.layers.values()), LayerStatistics())
        return tuple(first.forget)

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both data sets together.

        Raises:
            InputError: If they were captured at different HookPoints.
        """
        if self.layers and other.layers and set(self.layers) != set(other.layers):
            raise InputError("statistics of different layers do not add up")
        empty = LayerStatistics()
        points = sorted({*self.layers, *other.layers})
        return Statistics(
            {p: self.layers.get(p, empty).merge(other.layers.get(p, empty)) for p in points},
        )

    def without(self, subject: str) -> Statistics:
        """Statistics as if `subject` (its key) had never been part of the request.

        Raises:
            InputError: If there is no such subject.
        """
        if subject not in self.subjects:
            raise InputError(f"no subject {subject!r} in these statistics")
        return Statistics({p: layer.without(subject) for p, layer in self.layers.items()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file, float64, atomically. It holds sums of states and opaque keys only."""
        target = Path(path)
        names: dict[str, tuple[int, str]] = {}
        tensors: dict[str, Tensor] = {}
        for point, layer in self.layers.items():
            for group, moments in layer.groups.items():
                stem = f"m{len(names)}"
                names[stem] = (point.layer, group)
                tensors.update({f"{stem}.{k}": v for k, v in moments.tensors().items()})
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        save_file(tensors, partial, metadata={"groups": json.dumps(names)})
        os.replace(partial, target)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Statistics:
        """Read what `save` wrote.

        Raises:
            ArtifactError: If the file is missing, truncated or not a statistics file.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                names = json.loads((file.metadata() or {})["groups"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return cls(_layers(names, tensors))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: not a readable statistics file ({error})") from error


def _layers(names: Mapping[str, Iterable[object]], tensors: Mapping[str, Tensor]) -> dict[HookPoint, LayerStatistics]:
    """Rebuild the layers from flat tensors and their table of names."""
    groups: dict[HookPoint, dict[str, Moments]] = {}
    for stem, (layer, group) in names.items():
        moments = Moments(int(tensors[f"{stem}.n"].item()), tensors[f"{stem}.total"], tensors.get(f"{stem}.gram"))
        groups.setdefault(HookPoint(int(str(layer))), {})[str(group)] = moments
    return {point: LayerStatistics(named) for point, named in groups.items()}
