"""A calibrated decision: gates, thresholds, and how they did on prompts that set neither."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.manifest import Calibration
from mllmeraser.erasure.gates import Gate
from mllmeraser.erasure.gates.conformal import auc, wilson


@dataclass(frozen=True)
class Decision:
    """Calibrated gates by layer, with scores that compare across subjects.

    Attributes:
        threshold: Above it an input belongs to the request; None if the policy has no threshold.
        tail: (m, subjects) highest held-out retain scores, from which a revocation recomputes the threshold.
        rates: (subjects,) false-alarm rates of each subject's own thresholds; None if all share one threshold.
    """

    gates: dict[int, Gate]
    threshold: float | None
    tail: Tensor | None
    calibration: Calibration
    rates: Tensor | None = None


def measure(check: Tensor, forget: Tensor, threshold: float | None) -> dict[str, object]:
    """Fields of `Calibration` for (n,) scores of other retain prompts and (m,) of forget prompts.

    Without a threshold they measure separation alone.
    """
    measures: dict[str, object] = {
        "n_check": check.numel(), "auc": auc(forget, check), "mean_forget": _mean(forget), "mean_retain": _mean(check),
    }  # fmt: skip
    if threshold is not None:
        alarms, n = int((check > threshold).sum()), check.numel()
        measures["false_alarms"] = alarms / n if n else None
        measures["false_alarms_interval"] = wilson(alarms, n) if n else None
        measures["detected"] = float((forget > threshold).double().mean()) if forget.numel() else None
    return measures


def _mean(scores: Tensor) -> float | None:
    """Mean over prompts that have a score."""
    present = scores[torch.isfinite(scores)]
    return float(present.mean()) if present.numel() else None
