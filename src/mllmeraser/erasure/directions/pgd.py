"""Adversarially perturbed images: projected gradient descent until the model complies with what it refuses.

The attack works in the processor's output space, on the very tensor the vision tower reads, so what is found
is what the model sees; each pixel stays within epsilon of the clean picture and within black and white.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import BatchFeature

from mllmeraser.erasure.settings import PGDSettings
from mllmeraser.erasure.states.capture_job import Job, captured
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.models.capture import capture, check_finite, last_real_index
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples.errors import InputError, NumericalError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class AdversarialBatch:
    """Samples with perturbed pictures.

    Attributes:
        samples: The samples, with their clean pictures.
        pixels: For each sample its perturbed `pixel_values`, as the model's forward takes them for one
            picture.
        complied: (n,) bool, whether the model already complied over the clean picture.
        flipped: (n,) bool, whether it complies over the perturbed picture and did not before.
    """

    samples: tuple[Sample, ...]
    pixels: tuple[Tensor, ...]
    complied: Tensor
    flipped: Tensor

    @property
    def flip_rate(self) -> float:
        """Share of the samples that were refused at first for which the attack worked; 0 if none was
        refused.
        """
        refused = int((~self.complied).sum())
        return int(self.flipped.sum()) / refused if refused else 0.0

    def inputs(self, model: MultimodalModel, rows: Sequence[int], padding_side: str = "right") -> BatchFeature:
        """The batch of prompts of `rows` with their perturbed pictures in place of the clean ones."""
        batch = model.encode([self.samples[row] for row in rows], padding_side)
        batch["pixel_values"] = torch.cat([self.pixels[row] for row in rows]).to(batch["pixel_values"])
        return batch

    @torch.no_grad()
    def states(
        self,
        model: MultimodalModel,
        points: Sequence[HookPoint],
        rows: Sequence[int],
        *,
        batch_size: int = 16,
    ) -> dict[HookPoint, Tensor]:
        """States at the last real prompt token over the perturbed pictures: (rows, d) float32 on the CPU."""
        found: dict[HookPoint, list[Tensor]] = {point: [] for point in points}
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = self.inputs(model, part)
            ids = batch["input_ids"]
            last = last_real_index(batch["attention_mask"], ids.shape[0], ids.shape[1], ids.device)
            with capture(model.layers, points, last) as states:
                model.hf(**batch, use_cache=False, logits_to_keep=1)
            for point, state in states.items():
                check_finite(state, point, part)
                found[point].append(state.float().cpu())
        return {point: torch.cat(parts) for point, parts in found.items()}


def perturb(
    model: MultimodalModel,
    samples: Sequence[Sample],
    targets: Sequence[str],
    settings: PGDSettings | None = None,
    progress: Progress | None = None,
    *,
    checkpoint: CaptureCheckpoint | None = None,
) -> AdversarialBatch:
    """Perturb the picture of each sample so that the model answers with its target text.

    x <- Pi(x - step * sign(grad_x NLL(target))), Pi the projection on the epsilon ball around the clean
    picture and on valid pixels. A row stops as soon as greedy decoding would say the target. The weights are
    not touched.

    Args:
        model: The frozen model.
        samples: Prompts with a picture.
        targets: For each of them the text to be said.
        settings: Of the descent.
        progress: Told how far it is.
        checkpoint: Where finished batches are kept, to go on after a kill; None: in memory alone.

    Raises:
        InputError: If a sample has no picture, or there are not as many targets as samples.
        NumericalError: If the loss or its gradient is not finite.
    """
    pixels: list[Tensor] = [torch.empty(0)] * len(samples)
    complied, now = (torch.zeros(len(samples), dtype=torch.bool) for _ in range(2))
    for rows, found in captured(perturb_job(model, samples, targets, settings), checkpoint, progress):
        complied[rows], now[rows] = found["complied"], found["complies"]
        for row, part in zip(rows, found["pixels"].split(found["rows"].tolist()), strict=True):
            pixels[row] = part
    return AdversarialBatch(tuple(samples), tuple(pixels), complied, now & ~complied)


def perturb_job(
    model: MultimodalModel, samples: Sequence[Sample], targets: Sequence[str], settings: PGDSettings | None = None
) -> Job:
    """The batches of `perturb`: `pixels` of all samples, how many `rows` each has, whether it `complied`, `complies`.

    Raises:
        InputError: If a sample has no picture, or there are not as many targets as samples.
    """
    chosen = settings or PGDSettings()
    if len(samples) != len(targets):
        raise InputError(f"{len(samples)} samples but {len(targets)} target texts")
    if any(sample.image is None for sample in samples):
        raise InputError("only pictures can be perturbed: a contrast sample has none")
    aimed = [replace(sample, answer=target) for sample, target in zip(samples, targets, strict=True)]

    def read(batch: Sequence[Sample]) -> dict[str, Tensor]:
        attack = _Attack(model, batch, [sample.answer or "" for sample in batch], chosen)
        with _frozen(model):
            before, after = attack.run()
        return {"complied": before, "complies": after, "rows": torch.tensor(attack.rows), "pixels": attack.pixels.cpu()}

    what, plan = f"pictures perturbed with {chosen.model_dump_json()}", model.prompts.plan(aimed, chosen.batch_size)
    return Job(model, what, aimed, plan, read, stage="perturbed images", key=_with_target)


def _with_target(sample: Sample) -> str:
    return json.dumps([sample.digest(), sample.answer])


class _Attack:
    """The descent of one batch."""

    def __init__(
        self, model: MultimodalModel, samples: Sequence[Sample], targets: Sequence[str], settings: PGDSettings
    ) -> None:
        batch = model.encode_answers(samples, targets, end=False)
        self.labels: Tensor = batch.pop("labels")
        self.dtype: torch.dtype = batch["pixel_values"].dtype
        # Steps of 2/255 vanish in half precision: the picture is kept in float32.
        self.clean: Tensor = batch.pop("pixel_values").float()
        self.pixels = self.clean.clone()
        self.space = model.family.pixel_bounds(model.processor, BatchFeature({"pixel_values": self.clean}))
        self.rows = _rows_per_sample(batch, len(samples), self.clean.shape[0])
        self.model, self.batch, self.settings = model, batch, settings

    def run(self) -> tuple[Tensor, Tensor]:
        """Descend; whether each row complied before and after, (rows,) bool on the CPU."""
        before: Tensor | None = None
        owner = torch.repeat_interleave(torch.arange(len(self.rows)), torch.tensor(self.rows)).to(self.clean.device)
        step = self.settings.step * 255.0 * self.space.scale
        for _ in range(self.settings.steps):
            point = self.pixels.clone().requires_grad_()
            with torch.enable_grad():
                loss, after = self._loss(point)
                before = after if before is None else before
                if bool(after.all()):
                    break
                (gradient,) = torch.autograd.grad(loss, point)
            if not bool(torch.isfinite(gradient).all()):
                raise NumericalError("the gradient of the attack is not finite: load the model in float32")
            moved = self.pixels - step * self.space.tie(gradient).sign()
            moved = self.space.project(moved, self.clean, self.settings.epsilon)
            still = (~after).to(self.clean.device)[owner].view(-1, *[1] * (moved.dim() - 1))
            self.pixels = torch.where(still, moved, self.pixels)
        with torch.no_grad():
            _, after = self._loss(self.pixels)
        return (after if before is None else before).cpu(), after.cpu()

    def _loss(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over rows of the mean NLL of the target, and whether greedy decoding says it, (rows,) bool."""
        first = int((self.labels != IGNORED).any(0).nonzero()[0, 0]) - 1
        kept = torch.arange(first, self.labels.shape[1] - 1, device=self.labels.device)
        inputs = {**self.batch, "pixel_values": pixels.to(self.dtype)}
        logits = self.model.hf(**inputs, use_cache=False, logits_to_keep=kept).logits.float()
        target = self.labels[:, first + 1 :].to(logits.device)
        wanted = target != IGNORED
        nll = -logits.log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
        loss = ((nll * wanted).sum(1) / wanted.sum(1)).sum()
        decisive = wanted
        if self.settings.flip_tokens is not None:
            decisive = wanted & (wanted.cumsum(1) <= self.settings.flip_tokens)
        return loss, ((logits.argmax(-1) == target) | ~decisive).all(1).detach()


def _rows_per_sample(batch: BatchFeature, samples: int, rows: int) -> list[int]:
    """Rows of `pixel_values` that belong to each sample: one, or as many as it has patches."""
    grid = batch.get("image_grid_thw")
    counts = [1] * samples if grid is None else [int(n) for n in grid.prod(-1)]
    if len(counts) != samples or sum(counts) != rows:
        raise InputError("the pictures of this model family cannot be told apart in pixel_values")
    return counts


@contextmanager
def _frozen(model: MultimodalModel) -> Iterator[None]:
    """No weight takes a gradient inside the block; what took one before does so again after it."""
    learning = [p for p in model.hf.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
