"""The neural gate: a two-layer perceptron per subject, trained in seconds. For comparison only.

It is not closed-form: it needs the states themselves, is neither additive nor exactly revocable, and is
larger than everything else in an eraser.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mllmeraser.erasure.gates.base import Gate, finite
from mllmeraser.erasure.states.moments import require_finite
from mllmeraser.samples.errors import InputError

ADVICE = "use a smaller learning rate"


def neural_gate(
    retain: Tensor,
    forget: Tensor,
    *,
    hidden: int = 128,
    steps: int = 300,
    batch: int = 256,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> Gate:
    """Perceptron d -> hidden -> 1 told to separate forget states (n_f, d) from retain states (n_r, d).

    Half of every batch is forget, half retain; the raw score is the logit. The standardisation of the inputs
    is folded into the first layer. Seeded, without touching the global random state.

    Raises:
        InputError: If one side has no states.
        NumericalError: If a state is not finite or the training diverged.
    """
    if retain.shape[0] == 0 or forget.shape[0] == 0:
        raise InputError("a gate needs forget states and retain states")
    sides = [require_finite(s, "states").detach().to("cpu", torch.float32) for s in (forget, retain)]
    everything = torch.cat(sides)
    centre, spread = everything.mean(0), everything.std(0, unbiased=False).clamp_min(1e-6)
    sides = [(side - centre) / spread for side in sides]
    generator = torch.Generator().manual_seed(seed)
    weights = _initial(retain.shape[1], hidden, generator)
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay)
    half = max(1, batch // 2)
    targets = torch.cat([torch.ones(half), torch.zeros(half)])
    with torch.enable_grad():
        for _ in range(steps):
            rows = [side[torch.randint(side.shape[0], (half,), generator=generator)] for side in sides]
            w1, b1, w2, b2 = weights
            logits = torch.relu(torch.cat(rows) @ w1.T + b1) @ w2 + b2
            optimiser.zero_grad()
            functional.binary_cross_entropy_with_logits(logits, targets).backward()
            optimiser.step()
    w1, b1, w2, b2 = (w.detach() for w in weights)
    scaled = w1 / spread
    tensors = {"hidden": scaled, "hidden_bias": b1 - scaled @ centre, "out": w2, "out_bias": b2}
    return finite(Gate("neural", {k: v[None] for k, v in tensors.items()}), ADVICE)


def _initial(width: int, hidden: int, generator: torch.Generator) -> list[Tensor]:
    """Small random weights, as leaves that take gradients."""
    w1 = torch.randn(hidden, width, generator=generator) * (2.0 / width) ** 0.5
    w2 = torch.randn(hidden, generator=generator) / hidden**0.5
    return [t.requires_grad_() for t in (w1, torch.zeros(hidden), w2, torch.zeros(()))]
