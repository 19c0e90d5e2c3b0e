"""Thresholds from held-out retain prompts (split conformal prediction), and how well scores separate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import Gate
from mllmeraser.models.capture import require_finite
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.intervals import wilson as wilson

# Guards the ceiling against 200 * 0.995 = 199.00000000000003.
ROUNDING = 1e-9
# Gates are calibrated in float64 and applied in float32: the prompt on the threshold must stay below it.
MARGIN = 1e-5


def prompts_needed(alpha: float) -> int:
    """The smallest number of held-out prompts with which a false-alarm rate of `alpha` can be promised."""
    if not 0.0 < alpha < 1.0:
        raise InputError(f"a false-alarm rate lies between 0 and 1, not {alpha}")
    return max(1, math.ceil(1.0 / alpha - 1.0 - ROUNDING))


def conformal_rank(n: int, alpha: float) -> int:
    """Rank k = ceil((n + 1)(1 - alpha)) of the threshold among `n` held-out scores, if there are enough."""
    needed = prompts_needed(alpha)
    if n < needed:
        raise InputError(
            f"a false-alarm rate of {alpha:g} needs at least {needed} held-out retain prompts for "
            f"calibration, and there are {n}: give more retain samples or allow a higher rate"
        )
    return math.ceil((n + 1) * (1.0 - alpha) - ROUNDING)


def conformal_threshold(scores: Tensor, alpha: float) -> float:
    """The k-th smallest of held-out retain scores (n,), k = `conformal_rank`, and a hair more for rounding.

    A fresh exchangeable retain prompt scores above it with probability at most `alpha`.
    """
    rank = conformal_rank(scores.numel(), alpha)
    return _above(float(require_finite(scores, "gate scores").flatten().sort().values[rank - 1]))


def upper_tail(scores: Tensor, alpha: float) -> Tensor:
    """Rows of per-subject scores (n, S) from which the threshold of *any* subset of subjects follows.

    The threshold is the j-th largest of the maxima over subjects, j = n - k + 1. Every row that ranks there is among
    the j largest of some subject. So at most j * S rows are enough to recompute it after a revocation.
    """
    j = scores.shape[0] - conformal_rank(scores.shape[0], alpha) + 1
    rows = scores.topk(j, dim=0).indices.flatten().unique()
    return scores[rows]


def tail_threshold(tail: Tensor, n: int, alpha: float) -> float:
    """The conformal threshold of `n` scores of which `tail` (m, S) is the `upper_tail`."""
    j = n - conformal_rank(n, alpha) + 1
    return _above(float(tail.amax(1).sort(descending=True).values[j - 1]))


def _above(score: float) -> float:
    return score + MARGIN * max(1.0, abs(score))


def standardised(gates: Mapping[int, Gate], held_out: Mapping[int, Tensor], *, pooled: bool) -> dict[int, Gate]:
    """Gates with scores of mean 0 and deviation 1 on held-out retain states, per subject, so that scores compare.

    With `pooled`, the mean over the layers gets deviation 1: one decision per request. `held_out` maps each layer to
    the states (n, d). Constant scores are divided by 1.
    """
    scales: dict[int, Tensor] = {}
    offsets: dict[int, Tensor] = {}
    columns = []
    for layer, gate in gates.items():
        raw = require_finite(gate.raw(held_out[layer]), "gate scores")
        mean, spread = raw.mean(0), _spread(raw)
        scales[layer], offsets[layer] = 1.0 / spread, -mean / spread
        columns.append((raw - mean) / spread)
    divisor = _spread(torch.stack(columns).mean(0)) if pooled else torch.ones_like(columns[0][0])
    return {layer: gate.affine(scales[layer] / divisor, offsets[layer] / divisor) for layer, gate in gates.items()}


def _spread(scores: Tensor) -> Tensor:
    """(S,) standard deviation over rows, 1 where the scores are constant."""
    spread = scores.std(0, unbiased=False)
    return torch.where(spread > 1e-12 * scores.abs().amax(0).clamp_min(1e-300), spread, torch.ones_like(spread))


def auc(forget: Tensor | Sequence[float], retain: Tensor | Sequence[float]) -> float | None:
    """Probability that a forget score exceeds a retain score, ties counted half; None if a side is empty."""
    high, low = (torch.as_tensor(s, dtype=torch.float64).flatten() for s in (forget, retain))
    if not high.numel() or not low.numel():
        return None
    low = low.sort().values
    below = torch.searchsorted(low, high, right=False) + torch.searchsorted(low, high, right=True)
    return float(below.double().mean() / (2 * low.numel()))


def topic_threshold(other: Tensor, facts: Tensor, own: Tensor, miss_rate: float, margin: float) -> float:
    """Threshold between questions for what is to be forgotten and all other questions.

    Where the two lie apart, it is `margin` of the way up from the others. It is low since name and face already protect
    other people, and unforeseen words must not let a fact through. Else it is just under the facts.

    Args:
        other: Scores (n,) of prompts that ask for nothing of it.
        facts: Scores (m,) of calibration prompts that do, about any person.
        own: The subject's held-out scores.
        miss_rate: Share of the lowest facts that are ignored.
    """
    high = float(other.max())
    low = min(low for side in (facts, own) if (low := lowest(side, miss_rate)) is not None)
    return high + margin * (low - high) if high < low else low


def lowest(scores: Tensor, miss_rate: float) -> float | None:
    """The lowest finite score, without a share `miss_rate` of them; None if there is none."""
    present = scores[torch.isfinite(scores)].double()
    return float(torch.quantile(present, miss_rate)) if len(present) else None
