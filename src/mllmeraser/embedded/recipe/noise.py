"""Noise on tokens while something is trained on them."""

from __future__ import annotations

import torch


def over_noise(tokens: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Tokens (..., width) with Gaussian noise whose deviation is ``share`` of each token's root mean square."""
    loud = tokens.detach().float().pow(2).mean(-1, keepdim=True).sqrt()
    return tokens + share * loud * torch.randn(tokens.shape, generator=generator)
