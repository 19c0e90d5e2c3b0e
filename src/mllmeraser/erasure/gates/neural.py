"""The neural gate: a two-layer perceptron per subject, trained in seconds. For comparison only.

It needs the states themselves, is neither additive nor exactly revocable, and is the largest part of an eraser.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mllmeraser.erasure.gates.base import Gate, TensorSpec, finite, require_sides
from mllmeraser.erasure.settings import GateSettings, NeuralSettings
from mllmeraser.models.capture import require_finite

ADVICE = "use a smaller learning rate"


class NeuralGate(Gate):
    """A perceptron d -> hidden -> 1 per subject; the raw score is its logit."""

    TENSORS = (
        TensorSpec("hidden", ("subjects", "hidden", "width")),
        TensorSpec("hidden_bias", ("subjects", "hidden")),
        TensorSpec("out", ("subjects", "hidden")),
        TensorSpec("out_bias", ("subjects",)),
    )
    FITTED_ON = "states"

    def formula(self, states: Tensor) -> Tensor:
        """(n, subjects) logits."""
        t = self.tensors
        hidden = torch.relu(torch.einsum("nd,skd->nsk", states, t["hidden"]) + t["hidden_bias"])
        return (hidden * t["out"]).sum(-1) + t["out_bias"]

    @classmethod
    def fit(cls, retain: Tensor, forget: Tensor, settings: GateSettings, seed: int = 0) -> NeuralGate:
        """See `neural_gate`."""
        return neural_gate(retain, forget, hidden=settings.hidden, training=settings.neural, seed=seed)


def neural_gate(
    retain: Tensor, forget: Tensor, *, hidden: int = 128, training: NeuralSettings | None = None, seed: int = 0
) -> NeuralGate:
    """Train a perceptron to separate forget states (n_f, d) from retain states (n_r, d).

    Each batch is half forget, half retain. The standardization of the inputs is folded into the first layer. The
    global random state is not touched. A training that diverges is a `NumericalError`.
    """
    require_sides(retain.shape[0], forget.shape[0])
    chosen = training or NeuralSettings()
    sides = [require_finite(s, "states").detach().to("cpu", torch.float32) for s in (forget, retain)]
    everything = torch.cat(sides)
    centre, spread = everything.mean(0), everything.std(0, unbiased=False).clamp_min(1e-6)
    sides = [(side - centre) / spread for side in sides]
    generator = torch.Generator().manual_seed(seed)
    weights = _initial(retain.shape[1], hidden, generator)
    optimizer = torch.optim.AdamW(weights, lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    half = chosen.batch // 2
    targets = torch.cat([torch.ones(half), torch.zeros(half)])
    with torch.enable_grad():
        for _ in range(chosen.steps):
            rows = [side[torch.randint(side.shape[0], (half,), generator=generator)] for side in sides]
            w1, b1, w2, b2 = weights
            logits = torch.relu(torch.cat(rows) @ w1.T + b1) @ w2 + b2
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(logits, targets).backward()
            optimizer.step()
    w1, b1, w2, b2 = (w.detach() for w in weights)
    scaled = w1 / spread
    tensors = {"hidden": scaled, "hidden_bias": b1 - scaled @ centre, "out": w2, "out_bias": b2}
    return finite(NeuralGate({k: v[None] for k, v in tensors.items()}), ADVICE)


def _initial(width: int, hidden: int, generator: torch.Generator) -> list[Tensor]:
    """Small random weights, as leaves that take gradients."""
    w1 = torch.randn(hidden, width, generator=generator) * (2.0 / width) ** 0.5
    w2 = torch.randn(hidden, generator=generator) / hidden**0.5
    return [t.requires_grad_() for t in (w1, torch.zeros(hidden), w2, torch.zeros(()))]
