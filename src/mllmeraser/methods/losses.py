"""Loss formulas of the published methods, as pure functions.

Shapes: logits (B, K, V) predict targets (B, K); a target of `IGNORED` counts nowhere. Everything is in nats.
A negative log-likelihood is called nll.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mllmeraser.models.prompts import IGNORED


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, K) -log p of each target, in float32; 0 where a target is ignored."""
    flat = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(targets.shape)


def token_counts(targets: Tensor) -> Tensor:
    """(B,) number of counted targets in each row."""
    return targets.ne(IGNORED).sum(-1)


def sequence_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) -log p(y | x): the sum over the tokens of each row, as preference losses use it."""
    return token_nll(logits, targets).sum(-1)


def mean_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Scalar: the mean over all counted tokens of the batch (the loss L of fine-tuning)."""
    return token_nll(logits, targets).sum() / token_counts(targets).sum().clamp(min=1)


def gradient_ascent(forget_nll: Tensor) -> Tensor:
    """GA (Jang et al. 2210.01504; Yao et al. 2310.10683): min -L_f."""
    return -forget_nll


def weighted_sum(forget: Tensor | None, retain: Tensor | None, gamma: float, alpha: float) -> Tensor:
    """The sum gamma * forget + alpha * retain; one of the two may be missing.

    GradDiff (Liu et al. 2203.12817; TOFU, Maini et al. 2401.06121) with forget = -L_f and retain = L_r:
    min -gamma L_f + alpha L_r. KL-min (TOFU) with retain = KL: min -L_f + alpha KL.
    """
    if forget is not None:
        return gamma * forget if retain is None else gamma * forget + alpha * retain
    if retain is None:
        raise ValueError("a loss needs a forget term or a retain term")
    return alpha * retain


def kl_divergence(reference: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Scalar: KL(p_reference || p) per token, the mean over the counted tokens only.

    KL-min (TOFU, Maini et al. 2401.06121): E_r KL(p_0 || p) per token. `reference` holds the logits of the original
    model, in the shape of `logits`, without gradient. Some published code also counts prompt or padding, or divides by
    the batch size; this function does not.
    """
    ours, theirs = logits.float().log_softmax(-1), reference.float().log_softmax(-1)
    tokens = (theirs.exp() * (theirs - ours)).sum(-1)
    counted = targets.ne(IGNORED)
    return (tokens * counted).sum() / counted.sum().clamp(min=1)


def npo(nll: Tensor, reference_nll: Tensor, beta: float, counts: Tensor | None = None) -> Tensor:
    """Scalar: -(2/beta) E log sigmoid(-beta Delta), Delta = log p_theta(y|x) - log p_ref(y|x).

    NPO (Zhang et al. 2404.05868). `nll` and `reference_nll` (B,) are sums over each answer. With `counts` (B,) both
    are first averaged over the answer's tokens (the length-averaged form, as in SimNPO 2410.07163). As beta -> 0, the
    gradient tends to that of GA on the same sums.
    """
    delta = reference_nll - nll
    if counts is not None:
        delta = delta / counts.clamp(min=1)
    return (2.0 / beta) * F.softplus(beta * delta).mean()
