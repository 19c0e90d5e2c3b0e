"""Give a trained model a better tower: its projector is refitted so that the language model sees what it saw before."""

from __future__ import annotations

import torch
from torch import nn

from mllmeraser.embedded.recipe.whitening import whitening

FRESH = 0.1
"""How loud, beside what was known, are the whitened directions of the new tower that the old one may have lacked."""


@torch.no_grad()
def transplant(entry: nn.Linear, before: torch.Tensor, after: torch.Tensor, ridge: float = 1e-3) -> float:
    """Refit the layer by which tower tokens enter the projector, from tokens of the same pictures.

    Args:
        entry: The layer, square; it is changed.
        before: (n, width) tokens of the tower it was trained with.
        after: (n, width) tokens of the new tower.
        ridge: Of the least squares that map ``after`` to ``before``, as a share of the mean variance.

    Returns:
        Share of the variance of ``before`` that the map explains.
    """
    old, new = before.double(), after.double()
    x, y = new - new.mean(0), old - old.mean(0)
    gram = x.T @ x
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    mapped = torch.linalg.solve(gram, x.T @ y)
    weight, bias = entry.weight.double(), entry.bias.double()
    fresh, _ = whitening(new)
    loud = (y @ weight.T).std()
    entry.weight.copy_(weight @ mapped.T + FRESH * loud * fresh)
    known = bias + weight @ (old.mean(0) - new.mean(0) @ mapped)
    entry.bias.copy_(known - FRESH * loud * fresh @ new.mean(0))
    return 1.0 - float((y - x @ mapped).pow(2).sum() / y.pow(2).sum())
