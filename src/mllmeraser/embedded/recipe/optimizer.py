"""Muon for the matrices inside the transformer blocks, AdamW for everything else.

Muon (Jordan et al. 2024) takes orthogonalised steps; rare facts, one person among a hundred, are learnt in about two
thirds of the steps that AdamW alone needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

DECAY = 0.05
BLOCKS = (".layers.", ".blocks.")
"""How parameters inside the blocks are named; Qwen's vision tower has the second."""


class Optimizer:
    """Both optimizers behind one."""

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        """``named`` are the parameters by their names."""
        inner = [p for name, p in named.items() if _hidden(name, p)]
        outer = [p for name, p in named.items() if not _hidden(name, p)]
        plain = [
            {"params": some, "weight_decay": decay}
            for decay, some in ((DECAY, [p for p in outer if p.ndim >= 2]), (0.0, [p for p in outer if p.ndim < 2]))
            if some
        ]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(plain, lr=1e-3, betas=(0.9, 0.98), fused=True)]
        if inner:
            muon = torch.optim.Muon(inner, lr=1e-3, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
            self.parts.append(muon)

    def set_rate(self, rate: float) -> None:
        """The learning rate from now on."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        """Take a step along the gradients and forget them."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """What is remembered about a parameter; empty before its first step."""
        return next((part.state[parameter] for part in self.parts if parameter in part.state), {})

    def restore(self, parameter: nn.Parameter, state: dict[str, torch.Tensor]) -> None:
        """Put back what ``state`` gave."""
        for part in self.parts:
            if parameter in set(_parameters(part)):
                part.state[parameter] = state


def _parameters(part: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return (p for group in part.param_groups for p in group["params"])


def _hidden(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and any(part in f".{name}" for part in BLOCKS)
