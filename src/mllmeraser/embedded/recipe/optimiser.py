"""Muon for the matrices inside the transformer blocks, AdamW for everything else.

Muon (Jordan et al. 2024) takes orthogonalised steps; rare facts, one person among a hundred, are learnt in about two
thirds of the steps that AdamW alone needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

DECAY = 0.05
BLOCKS = (".layers.", ".blocks.")
"""How parameters inside the blocks are named; Qwen's vision tower has the second."""


class Optimiser:
    """Both optimisers behind one: parameters by name, each in a group that has a name of its own."""

    def __init__(self, groups: Mapping[str, Mapping[str, nn.Parameter]]) -> None:
        """``groups`` maps the name of a group to its parameters by their names."""
        hidden: list[dict[str, Any]] = []
        plain: list[dict[str, Any]] = []
        for group, named in groups.items():
            inner = [p for name, p in named.items() if _hidden(name, p)]
            outer = [p for name, p in named.items() if not _hidden(name, p)]
            hidden.append({"params": inner, "name": group, "weight_decay": DECAY})
            for matrix in (True, False):
                some = [p for p in outer if (p.ndim >= 2) == matrix]
                plain.append({"params": some, "name": group, "weight_decay": DECAY if matrix else 0.0})
        adamw = torch.optim.AdamW([g for g in plain if g["params"]], lr=1e-3, betas=(0.9, 0.98), fused=True)
        self.parts: list[torch.optim.Optimizer] = [adamw]
        if any(group["params"] for group in hidden):
            chosen = [group for group in hidden if group["params"]]
            self.parts.append(torch.optim.Muon(chosen, lr=1e-3, adjust_lr_fn="match_rms_adamw"))

    def set_rate(self, rates: Mapping[str, float]) -> None:
        """Learning rate of each group from now on."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rates[group["name"]]

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
