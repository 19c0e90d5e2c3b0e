"""One forward pass over items: logits and targets, aligned, at the positions that a loss uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mllmeraser.methods.data import Item, chunks, pick
from mllmeraser.methods.losses import sequence_nll
from mllmeraser.models.intervention import declare_prompt
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED

LossOn = Literal["answer", "sequence"]


class Scored(NamedTuple):
    """Logits (B, K, V) in the model's dtype, and the targets (B, K) they predict, `IGNORED` where none."""

    logits: Tensor
    targets: Tensor


def score(model: MultimodalModel, items: Sequence[Item], loss_on: LossOn = "answer") -> Scored:
    """Run the model as it is on one batch of prompts with answers; the answer includes the end-of-turn token.

    Targets are the answer's tokens (`loss_on`: `answer`), or all tokens except images and padding (`sequence`).
    """
    inputs = model.encode_answers([item.sample for item in items], [item.answer for item in items])
    labels = inputs.pop("labels")
    prompt_ends = (labels != IGNORED).long().argmax(dim=1)
    if loss_on == "sequence":
        image = inputs["input_ids"] == model.family.image_token_id(model.hf)
        counted = inputs["attention_mask"].bool() & ~image
        labels = inputs["input_ids"].masked_fill(~counted, IGNORED)
        labels[:, 0] = IGNORED  # nothing predicts the first token
    first = int((labels != IGNORED).any(dim=0).nonzero()[0, 0]) - 1
    kept = torch.arange(first, labels.shape[1] - 1, device=labels.device)
    # An eraser on the reference model must know where the prompt ends.
    with declare_prompt(prompt_ends):
        logits = model.hf(**inputs, use_cache=False, logits_to_keep=kept).logits
    return Scored(logits, labels[:, first + 1 :].to(logits.device))


@torch.no_grad()
def answer_nll(model: MultimodalModel, items: Sequence[Item], batch_size: int, loss_on: LossOn) -> Tensor:
    """Sums (n,) of -log p over each item's tokens, float32, on the CPU."""
    sums = torch.zeros(len(items))
    for rows in chunks(len(items), batch_size):
        sums[rows] = sequence_nll(*score(model, pick(items, rows), loss_on)).cpu()
    return sums
