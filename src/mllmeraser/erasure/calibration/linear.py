"""Threshold of linear, quadratic and neural gates at a promised false-alarm rate, from held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mllmeraser.erasure.artifact.manifest import Calibration
from mllmeraser.erasure.calibration.decision import Decision, measure
from mllmeraser.erasure.calibration.subject import subject_thresholds, with_margin
from mllmeraser.erasure.gates import Gate, pooled
from mllmeraser.erasure.gates.conformal import conformal_threshold, standardised, upper_tail
from mllmeraser.erasure.policy import Policy
from mllmeraser.erasure.settings import FitSettings

StatesByLayer = Mapping[int, Tensor]


def calibrate(
    gates: Mapping[int, Gate],
    policy: Policy,
    *,
    held_out: StatesByLayer,
    check: StatesByLayer,
    forget: StatesByLayer,
    false_alarm_rate: float,
) -> Decision:
    """Make scores of subjects comparable, set the threshold, and measure the decision on other data.

    The states (n, d) by layer are `held_out` retain states that no gate was fitted on, those of a third set (`check`),
    and held-out `forget` states. Without a threshold in the policy, scores stay as fitted.
    """
    threshold = tail = None
    promise: dict[str, object] = {}
    if policy.phi == "threshold":
        gates = standardised(gates, held_out, pooled=policy.read == "request")
        scores = pooled(gates, held_out, policy)
        threshold = conformal_threshold(scores.amax(1), false_alarm_rate)
        tail = upper_tail(scores, false_alarm_rate)
        promise = {
            "false_alarm_rate_asked": false_alarm_rate, "false_alarm_rate_promised": false_alarm_rate,
            "n": scores.shape[0],
        }  # fmt: skip
    sides = [pooled(gates, states, policy).amax(1) for states in (check, forget)]
    calibration = Calibration.model_validate({**promise, **measure(sides[0], sides[1], threshold)})
    return Decision(dict(gates), threshold, tail, calibration)


def calibrate_each(
    gates: Mapping[int, Gate],
    settings: FitSettings,
    *,
    held_out: StatesByLayer,
    check: StatesByLayer,
    forget: StatesByLayer,
    counts: Sequence[int],
) -> Decision:
    """As `calibrate`, with a threshold of its own for each subject, between other prompts and its own.

    No threshold depends on another subject, so a subject can be taken out exactly. `counts` are the numbers of `forget`
    rows of each subject, in order.
    """
    policy, miss_rate = settings.policy, settings.gate.miss_rate
    gates = standardised(gates, held_out, pooled=policy.read == "request")
    scores, own = (pooled(gates, states, policy) for states in (held_out, forget))
    mine = [rows[:, subject] for subject, rows in enumerate(own.split(list(counts)))]
    levels = subject_thresholds(scores, mine, miss_rate, settings.false_alarm_rate)
    thresholds = with_margin(levels.thresholds, mine, miss_rate, settings.margin)
    moved = {layer: gate.above(thresholds) for layer, gate in gates.items()}
    sides = [pooled(moved, states, policy).amax(1) for states in (check, forget)]
    promise = {
        "false_alarm_rate_asked": settings.false_alarm_rate,
        "false_alarm_rate_promised": min(1.0, float(levels.rates.sum())),
        "n": scores.shape[0],
    }
    calibration = Calibration.model_validate({**promise, **measure(sides[0], sides[1], 0.0)})
    return Decision(moved, 0.0, None, calibration, levels.rates)
