"""Calibration on held-out prompts: the threshold at a stated false-alarm rate, the strength under a utility
budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mllmeraser.erasure.artifact.manifest import Calibration, GridPoint
from mllmeraser.erasure.gates import Gate, pooled
from mllmeraser.erasure.gates.conformal import auc, conformal_threshold, standardised, upper_tail, wilson
from mllmeraser.erasure.policy import Policy
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

StatesByLayer = Mapping[int, Tensor]


@dataclass(frozen=True)
class Decision:
    """Calibrated gates, their threshold, and how they did.

    Attributes:
        gates: Layer -> gates whose scores compare across subjects.
        threshold: Above which an input belongs to the request; None if the policy has no threshold.
        tail: (m, S) highest held-out retain scores, from which a revocation recomputes the threshold.
        calibration: What goes into the manifest.
        rates: (S,) false alarms that each subject's own thresholds keep to; None where all have one threshold.
    """

    gates: dict[int, Gate]
    threshold: float | None
    tail: Tensor | None
    calibration: Calibration
    rates: Tensor | None = None


def calibrate(
    gates: Mapping[int, Gate],
    policy: Policy,
    *,
    held_out: StatesByLayer,
    check: StatesByLayer,
    forget: StatesByLayer,
    false_alarm_rate: float,
) -> Decision:
    """Make the gates' scores comparable, set the threshold, and measure the decision on data that did
    neither.

    Args:
        gates: Layer -> gates of all subjects, as fitted.
        policy: Whose phi says whether there is a threshold. Without one the scores stay as fitted.
        held_out: Retain states (n, d) per layer that no gate was fitted on.
        check: Retain states of a third set.
        forget: Held-out forget states.
        false_alarm_rate: alpha; the threshold is the ceil((n + 1)(1 - alpha))-th smallest held-out score.

    Raises:
        InputError: If there are too few held-out prompts for alpha.
        NumericalError: If a score is not finite.
    """
    if policy.phi != "threshold":
        measured = _measure(dict(gates), policy, None, check, forget)
        return Decision(dict(gates), None, None, measured)
    comparable = standardised(gates, held_out, pooled=policy.read == "request")
    scores = pooled(comparable, held_out, policy)
    threshold = conformal_threshold(scores.amax(1), false_alarm_rate)
    measured = _measure(comparable, policy, threshold, check, forget)
    stated = {"false_alarm_target": false_alarm_rate, "n": scores.shape[0]}
    return Decision(comparable, threshold, upper_tail(scores, false_alarm_rate), measured.model_copy(update=stated))


def _measure(
    gates: dict[int, Gate],
    policy: Policy,
    threshold: float | None,
    check: StatesByLayer,
    forget: StatesByLayer,
) -> Calibration:
    """AUC, mean scores and, with a threshold, rates of the decision on fresh states."""
    retain_scores, forget_scores = (pooled(gates, states, policy).amax(1) for states in (check, forget))
    n = retain_scores.numel()
    found: dict[str, object] = {
        "n_check": n,
        "auc": auc(forget_scores, retain_scores),
        "mean_forget": float(forget_scores.mean()) if forget_scores.numel() else None,
        "mean_retain": float(retain_scores.mean()) if n else None,
    }
    if threshold is not None:
        alarms = int((retain_scores > threshold).sum())
        found["false_alarms"] = alarms / n if n else None
        found["false_alarms_interval"] = wilson(alarms, n)
        found["detected"] = float((forget_scores > threshold).double().mean()) if forget_scores.numel() else None
    return Calibration.model_validate(found)


# -- strength and layers ---------------------------------------------------------------------------------


def degenerate(text: str) -> bool:
    """Whether an answer is empty or stutters: a word three times in a row, or two words twice over and
    again.
    """
    words = text.split()
    if not any(character.isalnum() for character in text):
        return True
    for width in (1, 2, 3):
        for start in range(len(words) - 3 * width + 1):
            first = words[start : start + width]
            if first == words[start + width : start + 2 * width] == words[start + 2 * width : start + 3 * width]:
                return True
    return False


def tune(
    model: MultimodalModel,
    candidate: Callable[[float, tuple[int, ...]], Intervention],
    grid: Sequence[tuple[float, tuple[int, ...]]],
    *,
    forget: Sequence[Sample],
    retain: Sequence[Sample],
    strangers: Sequence[Sample] = (),
    max_new_tokens: int = 24,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[GridPoint, ...]:
    """Try every (strength, shift layers) of `grid` on held-out prompts by generating, and say what changed.

    No gold answer is needed: the bare model's own answers are the reference, and the answers it gives about
    strangers are what a forgotten person's should look like.
    """

    def answer(samples: Sequence[Sample]) -> list[str]:
        said = model.generate(samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
        return [" ".join(text.split()).casefold() for text in said]

    bare_forget, bare_retain, aim = answer(forget), answer(retain), set(answer(strangers))
    curve = []
    for done, (strength, layers) in enumerate(grid, 1):
        with candidate(strength, layers).attached(model):
            now_forget, now_retain = answer(forget), answer(retain)
        curve.append(
            GridPoint(
                strength=strength,
                shift_layers=layers,
                forget_kept=_share([a == b for a, b in zip(now_forget, bare_forget, strict=True)]),
                forget_reached=_share([text in aim for text in now_forget]) if aim else None,
                degenerate=_share([degenerate(text) for text in now_forget]),
                retain_changed=_share([a != b for a, b in zip(now_retain, bare_retain, strict=True)]),
            )
        )
        if progress is not None:
            progress("try strengths", done, len(grid))
    return tuple(curve)


def choose(curve: Sequence[GridPoint], utility_budget: float) -> GridPoint:
    """The point that forgets most within the budget; among equals the smallest strength, then the fewest
    layers.

    If no point keeps the budget, the one that changes fewest retained answers.
    """

    def harm(point: GridPoint) -> tuple[float, float, int]:
        loss = point.forget_kept + point.degenerate - (point.forget_reached or 0.0)
        return (round(loss, 9), point.strength, len(point.shift_layers))

    within = [point for point in curve if point.retain_changed <= utility_budget]
    return min(within, key=harm) if within else min(curve, key=lambda p: (p.retain_changed, *harm(p)))


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
