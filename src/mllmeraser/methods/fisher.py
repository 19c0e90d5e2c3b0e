"""Which weights belong to what is to be forgotten: squared gradients, compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mllmeraser.samples.errors import InputError, NumericalError

FLOOR = 1e-15


def fisher(parameters: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]) -> dict[str, Tensor]:
    """F(D): the mean over batches of the squared gradient of each batch's loss, float32, by parameter.

    Raises:
        InputError: If there is no batch.
        NumericalError: If a gradient is not finite.
    """
    sums = {name: torch.zeros_like(one, dtype=torch.float32) for name, one in parameters.items()}
    count = 0
    for loss in losses:
        # A part that a batch does not use (the tower, for text alone) has no gradient: zero.
        grads = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
        for name, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                sums[name] += grad.float().square()
        count += 1
    if not count:
        raise InputError("an importance of weights is measured on samples, and there are none")
    bad = [name for name, total in sums.items() if not bool(torch.isfinite(total).all())]
    if bad:
        raise NumericalError(f"the gradient of {bad[0]} is not finite: load the model in a wider dtype")
    return {name: total / count for name, total in sums.items()}


def masks(forget: Mapping[str, Tensor], preserve: Mapping[str, Tensor], beta: float) -> dict[str, Tensor]:
    """True where (F_forget + 1e-15) / (F_preserve + 1e-15) >= beta (2502.11051).

    A weight that neither side looks at has the ratio 1.
    """
    return {name: (forget[name] + FLOOR) / (preserve[name] + FLOOR) >= beta for name in forget}


def share(found: Mapping[str, Tensor]) -> float:
    """Share of the weights that the masks cover."""
    total = sum(mask.numel() for mask in found.values())
    return sum(int(mask.sum()) for mask in found.values()) / total if total else 0.0


def check_masks(found: Mapping[str, Tensor], part: str) -> float:
    """The share, if it is more than none and less than all.

    Raises:
        InputError: If it is not: the method would do nothing, or be plain ascent.
    """
    covered = share(found)
    if not 0.0 < covered < 1.0:
        raise InputError(
            f"the {part} mask covers {'all' if covered else 'none'} of its weights: "
            "choose another `beta`, or give more samples"
        )
    return covered


def named(parameters: Mapping[str, nn.Parameter], patterns: Sequence[str], part: str) -> list[str]:
    """Names of the parameters whose path has one of `patterns` as a component.

    Raises:
        InputError: If none does.
    """
    found = [name for name in parameters if set(name.split(".")) & set(patterns)]
    if not found:
        raise InputError(f"no parameter of the model belongs to its {part} part ({', '.join(patterns)})")
    return found
