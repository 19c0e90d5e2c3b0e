"""Masks of the weights that matter more for forget samples than for others: a ratio of squared gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mllmeraser.samples.errors import InputError, NumericalError

FLOOR = 1e-15


def fisher(parameters: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]) -> dict[str, Tensor]:
    """F(D): the mean over batches of the squared gradient of each batch's loss, float32, by parameter.

    Raises:
        InputError: There is no batch.
        NumericalError: A gradient is not finite.
    """
    sums = {name: torch.zeros_like(one, dtype=torch.float32) for name, one in parameters.items()}
    count = 0
    for loss in losses:
        # A part that a batch does not use (the tower, in a text batch) has no gradient: zero.
        grads = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
        for name, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                sums[name] += grad.float().square()
        count += 1
    if not count:
        raise InputError("the importance of weights needs samples, and there are none")
    bad = [name for name, total in sums.items() if not bool(torch.isfinite(total).all())]
    if bad:
        raise NumericalError(f"the gradient of {bad[0]} is not finite: load the model in a wider dtype")
    return {name: total / count for name, total in sums.items()}


def masks(forget: Mapping[str, Tensor], preserve: Mapping[str, Tensor], beta: float) -> dict[str, Tensor]:
    """True where (F_forget + 1e-15) / (F_preserve + 1e-15) >= beta (2502.11051); unused weights have the ratio 1."""
    return {name: (forget[name] + FLOOR) / (preserve[name] + FLOOR) >= beta for name in forget}


def check_masks(chosen: Mapping[str, Tensor], part: str) -> float:
    """The share of the weights that the masks cover.

    Raises:
        InputError: It is 0 or 1: the method would do nothing, or be plain ascent.
    """
    total = sum(mask.numel() for mask in chosen.values())
    covered = sum(int(mask.sum()) for mask in chosen.values()) / total if total else 0.0
    if not 0.0 < covered < 1.0:
        raise InputError(
            f"the {part} mask covers {'all' if covered else 'none'} of its weights: "
            "choose another `beta`, or use more samples"
        )
    return covered


def named(parameters: Mapping[str, nn.Parameter], patterns: Sequence[str], part: str) -> list[str]:
    """Names of the parameters with one of `patterns` as a component of their path.

    Raises:
        InputError: There are none.
    """
    names = [name for name in parameters if set(name.split(".")) & set(patterns)]
    if not names:
        raise InputError(f"no parameter of the model belongs to its {part} part ({', '.join(patterns)})")
    return names
