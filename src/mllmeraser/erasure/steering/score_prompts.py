"""Gate scores of many prompts, from the code that steers, at strength 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mllmeraser.erasure.steering.attach import attach_all
from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
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
    samples: Sequence[Sample],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> GateReadings:
    """Read the gates of an eraser (or of a plan) on samples."""
    plan = replace(eraser.plan(model), strength=0.0)
    pooled = torch.zeros(len(samples))
    layers = {layer: torch.zeros(0) for layer in plan.reads}
    count = counting(progress, "read the gate", len(samples))
    with attach_all(model, [plan]) as attachment:
        for rows in model.prompts.plan(samples, batch_size):
            model.hf(**model.encode([samples[r] for r in rows]), use_cache=False, logits_to_keep=1)
            readings = attachment.readings
            assert readings is not None
            pooled[rows] = readings.pooled[:, 0].float().cpu()
            for layer, scores in readings.per_layer[plan.name].items():
                if not len(layers[layer]):
                    layers[layer] = torch.zeros(len(samples), scores.shape[-1])
                layers[layer][rows] = scores.float().cpu()
            count(len(rows))
    return GateReadings(pooled, layers)
