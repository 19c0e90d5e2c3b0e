"""States of all groups of samples at the last prompt token, in one pass over the model, and the sums made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.states.capture_job import Job, captured
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.moments import MomentAccumulator
from mllmeraser.erasure.states.statistics import FORGET, RETAIN, LayerStatistics, Moments, Statistics, require_finite
from mllmeraser.models.capture import capture, check_finite, last_real_index
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

States = dict[HookPoint, Tensor]


def gather(
    model: MultimodalModel,
    groups: Mapping[str, Sequence[Sample]],
    points: Sequence[HookPoint],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, States]:
    """States (n, d) of every group at every HookPoint; each sample passes through the model once.

    Raises:
        NumericalError: If a state is NaN or infinite.
    """
    everything = [sample for samples in groups.values() for sample in samples]
    tell = counting(progress, "capture states", len(everything))
    states = model.states(everything, points, batch_size=batch_size, progress=tell)
    found: dict[str, States] = {}
    start = 0
    for name, samples in groups.items():
        stop = start + len(samples)
        found[name] = {point: rows[start:stop] for point, rows in states.items()}
        start = stop
    return found


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
    """What `statistics_of(gather(...))` gives, summed as the batches come: all states are never held at once.

    What is held at most is stated by `moment_bytes` (see `footprint`).

    Args:
        model: The frozen model.
        groups: Samples by the names of `LayerStatistics`, or by others in `only_kept`.
        points: HookPoints of all layers that are read or shifted.
        reads: Layers where a gate is read.
        kept: Groups whose states at `reads` are needed themselves, as by a gate that is trained.
        only_kept: Groups of which nothing else is needed: those that set and check a threshold.
        batch_size: Prompts in a batch.
        progress: Told how far the capture is.
        checkpoint: Where captured batches are kept, to go on after a kill.

    Returns:
        Statistics of all groups but `only_kept`, and states (n, d) float32 at `reads` of all that are kept.

    Raises:
        NumericalError: If a state is NaN or infinite.
    """
    width, device = model.hidden_size, model.device
    read_points = [point for point in points if point.layer in reads]
    sums = {
        name: {p: MomentAccumulator(width, gram=_gated(name) and p.layer in reads, device=device) for p in points}
        for name in groups
        if name not in only_kept
    }
    rows = {
        name: {p: torch.zeros(len(groups[name]), width) for p in read_points}
        for name in groups
        if name in kept or name in only_kept
    }
    owners = [(name, number) for name, samples in groups.items() for number in range(len(samples))]
    for batch, tensors in captured(last_job(model, groups, points, batch_size), checkpoint, progress):
        places: dict[str, list[int]] = {}
        for place, row in enumerate(batch):
            places.setdefault(owners[row][0], []).append(place)
        for name, where in places.items():
            numbers = [owners[batch[place]][1] for place in where]
            for column, point in enumerate(points):
                states = tensors["states"][where, column]
                if name in sums:
                    sums[name][point].add(states, numbers)
                if name in rows and point in rows[name]:
                    rows[name][point][numbers] = states.float()
    by_point = {p: LayerStatistics({name: some[p].moments() for name, some in sums.items()}) for p in sorted(points)}
    return Statistics(by_point), rows


def last_job(
    model: MultimodalModel, groups: Mapping[str, Sequence[Sample]], points: Sequence[HookPoint], batch_size: int = 32
) -> Job:
    """The states of every group at the last prompt token: batches of `states` (b, points, d) in the model's dtype."""
    samples = [sample for some in groups.values() for sample in some]

    @torch.no_grad()
    def read(batch: Sequence[Sample]) -> dict[str, Tensor]:
        inputs = model.encode(batch, "right")
        ids = inputs["input_ids"]
        last = last_real_index(inputs["attention_mask"], ids.shape[0], ids.shape[1], ids.device)
        with capture(model.layers, points, last) as found:
            model.hf(**inputs, use_cache=False, logits_to_keep=1)
        states = [require_finite(found[point].cpu(), f"states after layer {point.layer}") for point in points]
        return {"states": torch.stack(states, 1)}

    what = f"states of layers {[point.layer for point in points]}"
    return Job(model, what, samples, model.prompts.plan(samples, batch_size), read)


@torch.no_grad()
def answer_states(
    model: MultimodalModel,
    samples: Sequence[Sample],
    answers: Sequence[str],
    points: Sequence[HookPoint],
    *,
    batch_size: int = 32,
) -> States:
    """States (n, d) at the last token of a given answer after each prompt, float32 on the CPU."""
    found = {point: torch.zeros(len(samples), model.hidden_size) for point in points}
    for rows in model.prompts.plan(samples, batch_size):
        batch = model.encode_answers([samples[r] for r in rows], [answers[r] for r in rows], end=False)
        batch.pop("labels")
        ids = batch["input_ids"]
        last = last_real_index(batch["attention_mask"], ids.shape[0], ids.shape[1], ids.device)
        with capture(model.layers, points, last) as states:
            model.hf(**batch, use_cache=False, logits_to_keep=1)
        for point, state in states.items():
            check_finite(state, point, rows)
            found[point][rows] = state.float().cpu()
    return found


def statistics_of(groups: Mapping[str, States], read_layers: Collection[int]) -> Statistics:
    """MomentAccumulator of every group at every HookPoint; second moments only where a gate may be fitted.

    `groups` maps the names of `LayerStatistics` to states. Retain and forget groups at `read_layers` keep
    second moments; everything else is only ever averaged.
    """
    layers: dict[HookPoint, dict[str, Moments]] = {}
    for name, states in groups.items():
        for point, rows in states.items():
            moments = Moments.from_states(rows, gram=_gated(name) and point.layer in read_layers)
            layers.setdefault(point, {})[name] = moments
    return Statistics({point: LayerStatistics(layers[point]) for point in sorted(layers)})


def _gated(name: str) -> bool:
    """Whether a gate is fitted on the second moments of this group."""
    return name == RETAIN or name.startswith(FORGET)


def counting(progress: Progress | None, stage: str, total: int) -> Callable[[int], None] | None:
    """A callback for increments that reports sums to `progress`."""
    if progress is None:
        return None
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(stage, done, total)

    return tell
