"""States of all groups of samples in one pass over the model, and the statistics made from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.statistics import FORGET, RETAIN, LayerStatistics, Moments, Statistics
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
    """Sums of every group at every HookPoint; second moments only where a gate may be fitted.

    `groups` maps the names of `LayerStatistics` to states. Retain and forget groups at `read_layers` keep
    second moments; everything else is only ever averaged.
    """
    layers: dict[HookPoint, dict[str, Moments]] = {}
    for name, states in groups.items():
        gated = name == RETAIN or name.startswith(FORGET)
        for point, rows in states.items():
            moments = Moments.from_states(rows, gram=gated and point.layer in read_layers)
            layers.setdefault(point, {})[name] = moments
    return Statistics({point: LayerStatistics(layers[point]) for point in sorted(layers)})


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
