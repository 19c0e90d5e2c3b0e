"""Whitening: a projector begins by making every direction of the tower's tokens equally loud.

Colours fill most of the variance of the tokens; the shape of an eye or of a thing lies in directions a hundred times
weaker, which the language model would otherwise find late or never.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

LEAST = 1e-3
"""Of the mean variance: weaker directions are taken for this strong."""


@torch.no_grad()
def inputs(linear: nn.Linear, show: Callable[[], object]) -> torch.Tensor:
    """(n, width) of everything that ``linear`` meets while ``show`` runs."""
    met: list[torch.Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, given: met.append(given[0].flatten(0, -2)))
    try:
        show()
    finally:
        hook.remove()
    return torch.cat(met)


@torch.no_grad()
def whiten(linear: nn.Linear, show: Callable[[], object]) -> None:
    """Set ``linear`` (square, with a bias) to the whitening transform of the inputs it meets while ``show`` runs.

    With inputs x of mean m and covariance C, its outputs C^(-1/2) (x - m) have unit covariance.
    """
    transform, offset = whitening(inputs(linear, show).double())
    linear.weight.copy_(transform)
    linear.bias.copy_(offset)


def whitening(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """C^(-1/2) and -C^(-1/2) m of states (n, width) with mean m and covariance C."""
    variance, axes = torch.linalg.eigh(torch.cov(states.T))
    transform = (axes * variance.clamp(min=LEAST * float(variance.mean())).rsqrt()) @ axes.T
    return transform, -transform @ states.mean(0)
