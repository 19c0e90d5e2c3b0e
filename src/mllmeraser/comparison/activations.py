"""States before and after steering: a plane for the figure, and distances in the full space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmeraser.benchmarks import thin
from mllmeraser.comparison.cells import Activations, Cloud
from mllmeraser.erasure import Eraser
from mllmeraser.models import HookPoint, MultimodalModel
from mllmeraser.samples import InputError, Sample

Array = NDArray[np.float64]
GROUPS = {"forget": ("test", "forget"), "retain": ("retain_heldout", "retain")}
"""The sets of a group; the first that is scored counts. Held-out prompts come first, for no fit has seen them."""


def measure(
    model: MultimodalModel, eraser: Eraser, sets: Mapping[str, Sequence[Sample]], per_cell: int, batch_size: int = 32
) -> Activations | None:
    """States at the first shifted layer of forget and retain prompts, bare and with the eraser attached.

    States of different kinds of question (task and modality) lie far apart, which is not a matter of forgetting. So the
    mean of each kind, over both groups before steering, is subtracted.

    `per_cell` is the largest number of prompts of each task and modality. The result is None if either group has no
    set, or fewer than two prompts.
    """
    names = {group: next((name for name in choice if sets.get(name)), None) for group, choice in GROUPS.items()}
    chosen = {group: thin(sets[name], per_cell) for group, name in names.items() if name is not None}
    if len(chosen) < len(GROUPS) or min(map(len, chosen.values())) < 2:
        return None
    point = HookPoint(min(eraser.config.shift_layers))

    def states() -> dict[str, Array]:
        read = {group: model.states(samples, [point], batch_size=batch_size) for group, samples in chosen.items()}
        return {group: np.array(found[point].numpy(), dtype=np.float64) for group, found in read.items()}

    before = states()
    with eraser.attached(model):
        after = states()
    for kind in {_kind(sample) for samples in chosen.values() for sample in samples}:
        rows = {group: [_kind(sample) == kind for sample in samples] for group, samples in chosen.items()}
        centre = np.mean([before[group][own].mean(0) for group, own in rows.items() if any(own)], axis=0)
        for group, own in rows.items():
            before[group][own] -= centre
            after[group][own] -= centre
    return summarise(point.layer, {group: (names[group] or "", before[group], after[group]) for group in GROUPS})


def _kind(sample: Sample) -> tuple[str, str]:
    return sample.task, sample.modality


def summarise(layer: int, groups: Mapping[str, tuple[str, Array, Array]]) -> Activations:
    """Plane and distances of clouds; `groups` maps a group to its set and its states (n, d) before and after."""
    clouds = {
        f"{group}, {when}": states
        for group, (_, before, after) in groups.items()
        for when, states in (("before", before), ("after", after))
    }
    plane, variance = principal_plane(list(clouds.values()))
    flat = {name: plane(states) for name, states in clouds.items()}
    distances = {}
    for a, b in combinations(clouds, 2):
        energy, share = energy_distance(clouds[a], clouds[b])
        axis = wasserstein(flat[a][:, 0], flat[b][:, 0])
        distances[f"{a} / {b}"] = {"energy": energy, "energy_share": share, "wasserstein_axis_1": axis}
    shown = {
        group: Cloud(set=name, before=_points(flat[f"{group}, before"]), after=_points(flat[f"{group}, after"]))
        for group, (name, _, _) in groups.items()
    }
    return Activations(layer=layer, variance=variance, groups=shown, distances=distances)


class Plane(NamedTuple):
    """The two directions of largest variance over clouds of equal weight: `centre` (d,), `axes` (2, d) orthonormal."""

    centre: Array
    axes: Array

    def __call__(self, states: Array) -> Array:
        """States (n, d) in the plane (n, 2)."""
        flat: Array = (states - self.centre) @ self.axes.T
        return flat


def principal_plane(clouds: Sequence[Array]) -> tuple[Plane, tuple[float, float]]:
    """The plane of clouds (n_i, d), and the share of the variance on each axis.

    The largest entry of each axis is positive, so that a figure does not flip between runs.
    """
    centre = np.mean([cloud.mean(0) for cloud in clouds], axis=0)
    rows = np.concatenate([(cloud - centre) / np.sqrt(len(cloud)) for cloud in clouds])
    _, singular, axes = np.linalg.svd(rows, full_matrices=False)
    if len(axes) < 2:
        raise InputError("a plane needs states of at least two dimensions")
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    total = float((singular**2).sum())
    shares = (singular[:2] ** 2 / total).tolist() if total > 0 else [0.0, 0.0]
    return Plane(centre, axes), (float(shares[0]), float(shares[1]))


def energy_distance(x: Array, y: Array) -> tuple[float, float]:
    """Energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| of two clouds, and its share of 2 E|X-Y| (0: equal, 1: apart).

    Means are over all pairs, also of a point with itself (the V-statistic), so the distance is never negative.
    """
    between = 2 * _mean_distance(x, y)
    energy = max(0.0, between - _mean_distance(x, x) - _mean_distance(y, y))
    return energy, energy / between if between > 0 else 0.0


def _mean_distance(x: Array, y: Array) -> float:
    # one row at a time: all pairs of wide states would need much memory
    return float(np.mean([np.linalg.norm(y - row, axis=1).mean() for row in x]))


def wasserstein(x: Array, y: Array) -> float:
    """Wasserstein-1 distance of two samples on a line."""
    places = np.sort(np.concatenate([x, y]))
    shares = [np.searchsorted(np.sort(side), places[:-1], side="right") / len(side) for side in (x, y)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(places)).sum())


def _points(flat: Array) -> list[tuple[float, float]]:
    return [(round(float(a), 5), round(float(b), 5)) for a, b in flat]
