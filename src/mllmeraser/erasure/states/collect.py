"""States of groups of samples at the last prompt token, and the statistics computed from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.states.capture_job import Job
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint, captured
from mllmeraser.erasure.states.moments import MomentAccumulator, Moments
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, LayerStatistics, Statistics
from mllmeraser.models.capture import last_states
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

States = dict[HookPoint, Tensor]


def gather(
    model: MultimodalModel, groups: Mapping[str, Sequence[Sample]], points: Sequence[HookPoint], *, batch_size: int = 32
) -> dict[str, States]:
    """Return the states (n, d) of every group at every point; for studies, which need all states at once."""
    states = model.states([sample for some in groups.values() for sample in some], points, batch_size=batch_size)
    parts = {point: rows.split([len(some) for some in groups.values()]) for point, rows in states.items()}
    return {name: {point: split[i] for point, split in parts.items()} for i, name in enumerate(groups)}


def gather_sums(
    model: MultimodalModel,
    groups: Mapping[str, Sequence[Sample]],
    points: Sequence[HookPoint],
    reads: Collection[int],
    *,
    kept: Collection[str] = (),
    only_kept: Collection[str] = (),
    batch_size: int = 32,
    progress: Progress | None = None,
    checkpoint: CaptureCheckpoint | None = None,
) -> tuple[Statistics, dict[str, States]]:
    """Compute `statistics_of(gather(...))` batch by batch: all states are never held at once (see `moment_bytes`).

    Args:
        groups: Samples by the group names of `LayerStatistics`; names in `only_kept` are free.
        points: All layers that are read or shifted.
        reads: Layers that a gate reads.
        kept: Groups that also return their states (n, d) float32 at `reads`, for gates that are trained.
        only_kept: Groups that return these states alone, for thresholds.
        checkpoint: Keeps captured batches, so that an interrupted run can continue.
    """
    width, device = model.hidden_size, model.device
    sums = {
        name: {p: MomentAccumulator(width, gram=_gated(name) and p.layer in reads, device=device) for p in points}
        for name in groups
        if name not in only_kept
    }
    rows = {
        name: {p: torch.zeros(len(samples), width) for p in points if p.layer in reads}
        for name, samples in groups.items()
        if name in kept or name in only_kept
    }
    owners = [(name, number) for name, samples in groups.items() for number in range(len(samples))]
    for batch, tensors in captured(last_job(model, groups, points, batch_size), checkpoint, progress):
        places: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(batch):
            places[owners[row][0]].append(place)
        for name, where in places.items():
            numbers = [owners[batch[place]][1] for place in where]
            for column, point in enumerate(points):
                states = tensors["states"][where, column]
                if name in sums:
                    sums[name][point].add(states, numbers)
                if point in rows.get(name, ()):
                    rows[name][point][numbers] = states.float()
    by_point = {p: LayerStatistics({name: some[p].moments() for name, some in sums.items()}) for p in sorted(points)}
    return Statistics(by_point), rows


def last_job(
    model: MultimodalModel, groups: Mapping[str, Sequence[Sample]], points: Sequence[HookPoint], batch_size: int = 32
) -> Job:
    """Describe the capture of `gather_sums`: batches of `states` (b, points, d) in the model's dtype."""
    samples = [sample for some in groups.values() for sample in some]
    what = f"states of layers {[point.layer for point in points]}"
    return Job(
        model,
        what,
        samples,
        model.prompts.plan(samples, batch_size),
        lambda batch: {"states": last_states(model.hf, model.layers, model.encode(batch, "right"), points)},
    )


def answer_states(
    model: MultimodalModel,
    samples: Sequence[Sample],
    answers: Sequence[str],
    points: Sequence[HookPoint],
    *,
    batch_size: int = 32,
) -> States:
    """Return the states (n, d) float32 at the last token of the answer after each prompt, on the CPU."""

    def encode(rows: Sequence[int]) -> Mapping[str, Tensor]:
        batch = model.encode_answers([samples[row] for row in rows], [answers[row] for row in rows], end=False)
        del batch["labels"]
        return batch

    return model.states_of(model.prompts.plan(samples, batch_size), encode, points)


def statistics_of(groups: Mapping[str, States], read_layers: Collection[int]) -> Statistics:
    """Return the moments of every group at every point; second moments only where a gate may be fitted.

    Gates are fitted at `read_layers` on the retain and forget groups; other states are only averaged.
    """
    layers: dict[HookPoint, dict[str, Moments]] = defaultdict(dict)
    for name, states in groups.items():
        for point, rows in states.items():
            layers[point][name] = Moments.from_states(rows, gram=_gated(name) and point.layer in read_layers)
    return Statistics({point: LayerStatistics(layers[point]) for point in sorted(layers)})


def _gated(name: str) -> bool:
    """Whether gates are fitted on the second moments of this group."""
    return name == RETAIN or name.startswith(FORGET)
