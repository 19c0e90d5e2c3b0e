"""Threshold of linear, quadratic and neural gates at a promised false-alarm rate, from held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mllmeraser.erasure.artifact.manifest import Calibration
from mllmeraser.erasure.calibration.decision import Decision, measure
from mllmeraser.erasure.gates import Gate, pooled
from mllmeraser.erasure.gates.conformal import conformal_threshold, standardised, upper_tail
from mllmeraser.erasure.policy import Policy

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

    Args:
        gates: Layer -> gates of all subjects, as fitted.
        policy: Its phi says whether there is a threshold. Without one the scores stay as fitted.
        held_out: Retain states (n, d) per layer that no gate was fitted on.
        check: Retain states of a third set.
        forget: Held-out forget states.
        false_alarm_rate: alpha; the threshold is the ceil((n + 1)(1 - alpha))-th smallest held-out score.

    Raises:
        InputError: There are too few held-out prompts for alpha.
        NumericalError: A score is not finite.
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
