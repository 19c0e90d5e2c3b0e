"""Adversarial pictures: projected gradient descent until the model complies with a prompt that it refuses.

The attack changes the processor's output, the tensor that the vision tower reads. Each pixel stays within epsilon of
the clean picture, and between black and white.
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
from mllmeraser.erasure.states.capture_job import Job
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint, captured
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples.errors import InputError, NumericalError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class AdversarialBatch:
    """Samples with their clean and their perturbed pictures.

    Attributes:
        pixels: For each sample its perturbed `pixel_values`, as the model's forward takes them for one picture.
        complied: (n,) bool, whether the model already complied over the clean picture.
        flipped: (n,) bool, whether it complies only over the perturbed picture.
    """

    samples: tuple[Sample, ...]
    pixels: tuple[Tensor, ...]
    complied: Tensor
    flipped: Tensor

    @property
    def flip_rate(self) -> float:
        """Share of the refused samples that flipped; 0 if none was refused."""
        refused = int((~self.complied).sum())
        return int(self.flipped.sum()) / refused if refused else 0.0

    def inputs(self, model: MultimodalModel, rows: Sequence[int], padding_side: str = "right") -> BatchFeature:
        """Return the batch of prompts of `rows` over their perturbed pictures."""
        batch = model.encode([self.samples[row] for row in rows], padding_side)
        batch["pixel_values"] = torch.cat([self.pixels[row] for row in rows]).to(batch["pixel_values"])
        return batch

    def states(
        self, model: MultimodalModel, points: Sequence[HookPoint], rows: Sequence[int], *, batch_size: int = 16
    ) -> dict[HookPoint, Tensor]:
        """Return the states (rows, d) float32 at the last prompt token over the perturbed pictures, on the CPU."""
        plan = [list(range(start, min(start + batch_size, len(rows)))) for start in range(0, len(rows), batch_size)]
        return model.states_of(plan, lambda some: self.inputs(model, [rows[i] for i in some]), points)


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

    x <- Pi(x - step * sign(grad_x NLL(target))). Pi projects on the epsilon ball around the clean picture and on valid
    pixels. A row stops as soon as greedy decoding gives the target. The weights do not change. With `checkpoint`,
    finished batches are kept, so that an interrupted run can continue.

    Raises:
        InputError: A sample has no picture, or the numbers of samples and targets differ.
        NumericalError: A gradient is not finite.
    """
    pixels: list[Tensor] = [torch.empty(0)] * len(samples)
    complied, now = (torch.zeros(len(samples), dtype=torch.bool) for _ in range(2))
    for rows, tensors in captured(perturb_job(model, samples, targets, settings), checkpoint, progress):
        complied[rows], now[rows] = tensors["complied"], tensors["complies"]
        for row, part in zip(rows, tensors["pixels"].split(tensors["rows"].tolist()), strict=True):
            pixels[row] = part
    return AdversarialBatch(tuple(samples), tuple(pixels), complied, now & ~complied)


def perturb_job(
    model: MultimodalModel, samples: Sequence[Sample], targets: Sequence[str], settings: PGDSettings | None = None
) -> Job:
    """Describe the batches of `perturb`; see there for errors.

    Their tensors are `pixels` of all samples, the number of `rows` of each, and whether it `complied` and `complies`.
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

    def key(sample: Sample) -> str:
        return json.dumps([sample.digest(), sample.answer])

    what, plan = f"pictures perturbed with {chosen.model_dump_json()}", model.prompts.plan(aimed, chosen.batch_size)
    return Job(model, what, aimed, plan, read, stage="perturbed images", key=key)


class _Attack:
    """Gradient descent on the pictures of one batch."""

    def __init__(
        self, model: MultimodalModel, samples: Sequence[Sample], targets: Sequence[str], settings: PGDSettings
    ) -> None:
        batch = model.encode_answers(samples, targets, end=False)
        self.labels: Tensor = batch.pop("labels")
        self.dtype: torch.dtype = batch["pixel_values"].dtype
        # Steps of 2/255 vanish in half precision: the pictures stay in float32.
        self.clean: Tensor = batch.pop("pixel_values").float()
        self.pixels = self.clean.clone()
        self.space = model.family.pixel_bounds(model.processor, BatchFeature({"pixel_values": self.clean}))
        self.rows = _rows_per_sample(batch, len(samples), self.clean.shape[0])
        self.model, self.batch, self.settings = model, batch, settings

    def run(self) -> tuple[Tensor, Tensor]:
        """Descend, and return whether each row complied before and after: (rows,) bool on the CPU."""
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
        """Return the sum over rows of the target's mean NLL, and whether greedy decoding gives it: (rows,) bool."""
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
    """Return how many rows of `pixel_values` each sample has: one, or one per patch."""
    grid = batch.get("image_grid_thw")
    counts = [1] * samples if grid is None else [int(n) for n in grid.prod(-1)]
    if len(counts) != samples or sum(counts) != rows:
        raise InputError("this model family mixes the pictures of a batch in pixel_values: they cannot be perturbed")
    return counts


@contextmanager
def _frozen(model: MultimodalModel) -> Iterator[None]:
    """Switch off the gradients of all weights inside the block."""
    learning = [p for p in model.hf.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
