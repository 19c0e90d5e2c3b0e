"""Training data: items with answers, their order, the batches of each step, and the forward pass over a batch."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mllmeraser.methods.losses import sequence_nll
from mllmeraser.models.intervention import declare_prompt
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample

LossOn = Literal["answer", "sequence"]
Variant = Literal["forget-only", "joint", "interleaved", "sequential"]
"""Order of the steps; the variants of a method differ in nothing else."""


@dataclass(frozen=True)
class Item:
    """A question and the answer that a loss uses."""

    sample: Sample
    answer: str


@dataclass(frozen=True)
class TrainingData:
    """Items of both sides, and `preserved` ones for a mask only; `retain` is empty if a method needs none."""

    forget: tuple[Item, ...]
    retain: tuple[Item, ...] = ()
    preserved: tuple[Item, ...] = ()


def answered(samples: Iterable[Sample], role: str, method: str) -> tuple[Item, ...]:
    """The samples with their gold answers (else the first keyword).

    No sample, or one without an answer, is an InputError: skipping it would train on less than the user asked for.
    """
    items = []
    for sample in samples:
        answer = sample.answer or (sample.keywords[0] if sample.keywords else None)
        if not answer:
            raise InputError(
                f"{method} learns from answers, and the {role} sample {sample.id or sample.question!r} has none: "
                "use samples with answers (pictures and added wordings alone have none)"
            )
        items.append(Item(sample, answer))
    if not items:
        raise InputError(f"{method} needs {role} samples, and the request has none")
    return tuple(items)


@dataclass(frozen=True)
class Stream:
    """Endless batches of row numbers; batch `k` depends only on the fields and `k`, so a training can resume.

    Every pass takes each row once, shuffled by (seed, name, pass). The last batch of a pass may be smaller.
    """

    rows: int
    batch_size: int
    seed: int
    name: str

    @property
    def batches(self) -> int:
        """Batches in one pass."""
        return -(-self.rows // self.batch_size)

    def batch(self, number: int) -> list[int]:
        """Row numbers of batch `number`, counted from 0 over all passes."""
        turn, place = divmod(number, self.batches)
        order = list(range(self.rows))
        random.Random(f"{self.seed}/{self.name}/{turn}").shuffle(order)
        return order[place * self.batch_size : (place + 1) * self.batch_size]


def chunks(count: int, size: int) -> list[list[int]]:
    """Row numbers 0 .. count-1 in order, in batches of `size`."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


@dataclass(frozen=True)
class Step:
    """One optimizer step: the numbers of its forget and its retain batch, if any."""

    forget: int | None = None
    retain: int | None = None


def plan_steps(
    variant: Variant, forget_batches: int, retain_batches: int, *, epochs: int, steps: int | None = None
) -> list[Step]:
    """All steps of a training.

    Args:
        variant: `forget-only`; `joint`: one step on both, an epoch is a pass over the forget batches;
            `sequential`: in every epoch a full pass of forget steps, then a full pass of retain steps;
            `interleaved`: an epoch is a pass over the retain batches, one step each. A forget step comes
            before every floor(n_r / n_f)-th of them (at least 1), starting with the first.
        forget_batches: n_f, batches in a pass over the forget items.
        retain_batches: n_r, batches in a pass over the retain items; 0 is an InputError if the variant needs some.
        epochs: Number of epochs.
        steps: Total number of steps instead of whole epochs.
    """
    if variant != "forget-only" and not retain_batches:
        raise InputError(f"the variant {variant!r} needs retain samples, and the request has none")
    endless = _endless(variant, forget_batches, retain_batches)
    if steps is not None:
        return list(islice(chain.from_iterable(endless), steps))
    return list(chain.from_iterable(islice(endless, epochs)))


def _endless(variant: Variant, n_f: int, n_r: int) -> Iterator[list[Step]]:
    forget = retain = 0  # batches taken so far; a stream continues from one pass to the next
    every = max(n_r // n_f, 1)
    while True:
        if variant == "forget-only":
            epoch = [Step(forget + i) for i in range(n_f)]
        elif variant == "joint":
            epoch = [Step(forget + i, retain + i) for i in range(n_f)]
        elif variant == "sequential":
            epoch = [Step(forget + i) for i in range(n_f)] + [Step(None, retain + i) for i in range(n_r)]
        else:
            epoch = []
            for i in range(n_r):
                if i % every == 0:
                    epoch.append(Step(forget + i // every))
                epoch.append(Step(None, retain + i))
        forget += sum(step.forget is not None for step in epoch)
        retain += sum(step.retain is not None for step in epoch)
        yield epoch


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
        sums[rows] = sequence_nll(*score(model, [items[row] for row in rows], loss_on)).cpu()
    return sums
