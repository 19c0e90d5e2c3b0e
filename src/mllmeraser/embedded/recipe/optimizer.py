"""Muon for the matrices inside the transformer blocks, AdamW for everything else.

Muon (Jordan et al. 2024) takes orthogonalised steps. With it, rare facts (one person in a hundred) need about two
thirds of the steps that AdamW alone needs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

DECAY = 0.05
BLOCKS = (".layers.", ".blocks.")
"""Names of parameters inside the blocks contain one of these; Qwen's vision tower has the second."""


def bf16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is far slower than float32."""
    return torch.cuda.is_available() or bool(torch.cpu._is_avx512_bf16_supported())


class Optimizer:
    """Both optimizers as one, for parameters by name.

    Muon computes in bfloat16: on a processor without it a step takes three seconds, and AdamW has all parameters.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        inside = {name for name, p in named.items() if p.ndim == 2 and any(part in f".{name}" for part in BLOCKS)}
        blocks = inside if bf16_is_fast() else set()
        outer = [p for name, p in named.items() if name not in blocks]
        plain = [
            {"params": some, "weight_decay": decay}
            for decay, some in ((DECAY, [p for p in outer if p.ndim >= 2]), (0.0, [p for p in outer if p.ndim < 2]))
            if some
        ]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(plain, lr=1e-3, betas=(0.9, 0.98), fused=True)]
        if blocks:
            inner = [p for name, p in named.items() if name in blocks]
            muon = torch.optim.Muon(inner, lr=1e-3, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
            self.parts.append(muon)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate."""
        for group in (group for part in self.parts for group in part.param_groups):
            group["lr"] = rate

    def step(self) -> None:
        """Take a step along the gradients and delete them."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """State of a parameter; empty before its first step."""
        return next((part.state[parameter] for part in self.parts if parameter in part.state), {})

    def restore(self, parameter: nn.Parameter, state: dict[str, torch.Tensor]) -> None:
        """Set the state of a parameter to a result of `state`."""
        for part in self.parts:
            if any(parameter is p for group in part.param_groups for p in group["params"]):
                part.state[parameter] = state
