"""States of prompts where a decision looks, and at the last token of the shifted layers; kept for later fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.image_runs import run_means
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import NumericalError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class Anchor:
    """States of one prompt, float32 on the CPU.

    Attributes:
        ids: Token ids of its text, image placeholders left out.
        text: (tokens, d) at each of them, after the first read layer.
        last: (d,) at the last prompt token, after the second.
        image: (pictures, d) mean over the tokens of each picture, after the third.
        shifts: (layers, d) at the last prompt token, after every shifted layer.
    """

    ids: tuple[int, ...]
    text: Tensor
    last: Tensor
    image: Tensor
    shifts: Tensor


class Anchors:
    """Anchors of samples on one model; a prompt passes through the model once, however many fits ask for it."""

    def __init__(
        self, model: MultimodalModel, reads: Sequence[int], shifts: Sequence[int], *, batch_size: int = 32
    ) -> None:
        """Nothing is captured yet.

        Args:
            model: The frozen model.
            reads: The three layers of an identity decision: name, topic, face.
            shifts: Layers whose direction is wanted.
            batch_size: Prompts in a batch.
        """
        self.model, self.reads, self.shifts = model, tuple(reads), tuple(shifts)
        self._batch_size = batch_size
        self._points = [HookPoint(layer) for layer in sorted({*reads, *shifts})]
        self._kept: dict[str, Anchor] = {}
        self._digests: dict[int, tuple[Sample, str]] = {}

    def of(self, samples: Sequence[Sample], progress: Progress | None = None) -> list[Anchor]:
        """The anchors of samples, in their order.

        Raises:
            NumericalError: A state is NaN or infinite.
        """
        digests = [self._digest(sample) for sample in samples]
        missing = {d: s for d, s in zip(digests, samples, strict=True) if d not in self._kept}
        if missing:
            self._capture(list(missing), list(missing.values()), progress)
        return [self._kept[digest] for digest in digests]

    def _digest(self, sample: Sample) -> str:
        known = self._digests.get(id(sample))  # the sample is kept too, so that nothing else gets its place in memory
        if known is None:
            known = self._digests[id(sample)] = (sample, sample.digest())
        return known[1]

    @torch.no_grad()
    def _capture(self, digests: Sequence[str], samples: Sequence[Sample], progress: Progress | None) -> None:
        done = 0
        for rows in self.model.prompts.plan(samples, self._batch_size):
            found = self._batch([samples[r] for r in rows])
            for row, anchor in zip(rows, found, strict=True):
                self._kept[digests[row]] = anchor
            done += len(rows)
            if progress is not None:
                progress("capture states", done, len(samples))

    def _batch(self, samples: Sequence[Sample]) -> list[Anchor]:
        model = self.model
        batch = model.encode(samples, padding_side="right")
        states = _forward(model, batch, self._points)
        ids, mask = batch["input_ids"].cpu(), batch["attention_mask"].bool().cpu()
        image = (ids == model.family.image_token_id(model.hf)) & mask
        text, ends = mask & ~image, mask.sum(1) - 1
        name, topic, face = (states[HookPoint(layer)] for layer in self.reads)
        most = int((image[:, :1].sum(1) + (image[:, 1:] & ~image[:, :-1]).sum(1)).max())
        pictures, there = run_means(face, image, most)
        rows = torch.arange(len(samples))
        last = topic[rows, ends]
        shifts = torch.cat([last[:, None][:, :0], *(states[HookPoint(k)][rows, ends][:, None] for k in self.shifts)], 1)
        return [
            Anchor(tuple(ids[i][text[i]].tolist()), name[i][text[i]], last[i].clone(),
                   pictures[i][there[i]], shifts[i].clone())
            for i in range(len(samples))
        ]  # fmt: skip


def _forward(
    model: MultimodalModel, batch: Mapping[str, Tensor], points: Sequence[HookPoint]
) -> dict[HookPoint, Tensor]:
    kept: dict[HookPoint, Tensor] = {}

    def keep(point: HookPoint):  # type: ignore[no-untyped-def]
        def hook(_module: object, _args: object, output: object) -> None:
            states = hidden_of(output).float().cpu()
            if not bool(torch.isfinite(states[batch["attention_mask"].bool().cpu()]).all()):
                raise NumericalError(
                    f"a state after layer {point.layer} is not finite; load the model in a wider dtype "
                    "(float32 or bfloat16)"
                )
            kept[point] = states

        return hook

    handles = [model.layers[point.layer].register_forward_hook(keep(point)) for point in points]
    try:
        model.hf(**batch, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def name_ends(model: MultimodalModel, ids: Sequence[int], name: str) -> list[int]:
    """Positions of the last token of every occurrence of a name, however the tokenizer joins it to a blank."""
    tokenizer = model.processor.tokenizer
    found = set()
    for spelling in (f" {name}", name):
        part = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        n = len(part)
        found |= {i + n - 1 for i in range(len(ids) - n + 1) if n and list(ids[i : i + n]) == list(part)}
    return sorted(found)
