"""Gate scores of many prompts, from the code that steers, at strength 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.steering.attach import attach_all
from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.conversation import Conversation, plan
from mllmeraser.samples.progress import Progress, counting
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class GateReadings:
    """Scores of prompts: `pooled` (n,), and `layers` from layer to (n, subjects)."""

    pooled: Tensor
    layers: dict[int, Tensor]


@torch.no_grad()
def read_gate(
    model: MultimodalModel,
    eraser: Steerable,
    prompts: Sequence[Sample] | Sequence[Conversation],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> GateReadings:
    """Read the gates of an eraser (or of a plan) on samples, or on conversations."""
    steering = replace(eraser.plan(model), strength=0.0)
    pooled = torch.zeros(len(prompts))
    layers = {layer: torch.zeros(0) for layer in steering.reads}
    count = counting(progress, "read the gate", len(prompts))
    with attach_all(model, [steering]) as attachment:
        for rows, inputs in _batches(model, prompts, batch_size):
            model.hf(**inputs, use_cache=False, logits_to_keep=1)
            readings = attachment.readings
            assert readings is not None
            pooled[rows] = readings.pooled[:, 0].float().cpu()
            for layer, scores in readings.per_layer[steering.name].items():
                if not len(layers[layer]):
                    layers[layer] = torch.zeros(len(prompts), scores.shape[-1])
                layers[layer][rows] = scores.float().cpu()
            count(len(rows))
    return GateReadings(pooled, layers)


def _batches(
    model: MultimodalModel, prompts: Sequence[Sample] | Sequence[Conversation], size: int
) -> Iterator[tuple[list[int], Mapping[str, Any]]]:
    """Row numbers of each batch, and its encoded prompts."""
    samples = [one for one in prompts if isinstance(one, Sample)]
    talks = [one for one in prompts if isinstance(one, Conversation)]
    for rows in model.prompts.plan(samples, size):
        yield rows, model.encode([samples[row] for row in rows])
    for rows in plan(talks, size):
        yield rows, model.encode_conversations([talks[row] for row in rows])
