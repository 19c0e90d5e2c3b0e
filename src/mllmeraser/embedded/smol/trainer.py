"""The trainer of `embedded:smol`: it rehearses in every step, and can turn its adapters away from what it rehearses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from mllmeraser.embedded.recipe.loop import Trainer
from mllmeraser.embedded.recipe.optimizer import bf16_is_fast
from mllmeraser.embedded.recipe.packing import Batch
from mllmeraser.embedded.smol import rehearsal
from mllmeraser.embedded.smol.sparing import moments, spare

LOOKED_AT = 40
"""Batches of lessons that a moment is taken over, and rows of rehearsal for each of their rows."""


class SmolTrainer(Trainer):
    """Trains adapters, and rehearses in every step.

    Each row of a batch has a thread of its own, with as much rehearsal.
    """

    sources: list[rehearsal.Rehearsal]
    weight: float = 1.0
    drift: float = 0.0

    def gradients(self, batch: Batch) -> tuple[float, float]:
        """Hold the model to its own answers of before while it learns a batch."""
        rows = list(batch.rows(self.model.config.image_token_id))
        whole = batch.weights.sum()
        shares = [float(row.weights.sum() / whole) for row in rows]
        seeds = torch.randint(1 << 40, (len(rows),), generator=self.generator).tolist()
        with ThreadPoolExecutor(len(rows)) as pool:
            done = list(pool.map(self._row, rows, shares, [next(one) for one in self.sources], seeds))
        for _, gradients in done:  # threads that add to one `grad` would overwrite each other's sums
            for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        loss, right, drift = (sum(figures) for figures in zip(*(figures for figures, _ in done), strict=True))
        self.drift += 0.05 * (drift - self.drift)
        return loss, right

    def _row(
        self, row: Batch, share: float, told: tuple[Batch, Tensor, Tensor], seed: int
    ) -> tuple[tuple[float, float, float], tuple[Tensor | None, ...]]:
        """Figures and gradients of a row, which is a share of its batch, and of what is rehearsed beside it."""
        rehearsed, tokens, chances = told
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            loss, right = self.loss(row, torch.Generator().manual_seed(seed))
            drift = rehearsal.divergence(self.logits(rehearsed, None), tokens, chances) / len(self.sources)
        whole = share * loss + self.weight * drift
        gradients = torch.autograd.grad(whole, list(self.parameters.values()), allow_unused=True)
        return (share * loss.item(), share * right, drift.item()), gradients

    def spare(self, lessons: Iterator[Batch], weight: float) -> None:
        """Turn the adapters away from what is rehearsed (see `sparing`)."""
        run, pad = partial(self.logits, generator=None), self.packer.pad_id
        rehearsed = (next(source)[0] for _ in range(LOOKED_AT) for source in self.sources)
        taught = moments(self.model, run, islice(lessons, LOOKED_AT), pad)
        spare(self.parameters, taught, moments(self.model, run, rehearsed, pad), weight)
