"""The batches of each optimizer step: the difference between the variants of a method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

from mllmeraser.samples.errors import InputError

Variant = Literal["forget-only", "joint", "interleaved", "sequential"]


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
        retain_batches: n_r, batches in a pass over the retain items; may be 0.
        epochs: Number of epochs.
        steps: Total number of steps instead of whole epochs.

    Raises:
        InputError: The variant needs retain samples and there are none.
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
