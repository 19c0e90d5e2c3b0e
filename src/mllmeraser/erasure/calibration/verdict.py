"""Is an eraser good enough by its own calibration? What a fit says last, and what a service asks first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mllmeraser.erasure.artifact.manifest import Calibration, EraserConfig
from mllmeraser.erasure.calibration.traffic import ALARMS, PROMPTS

LEAST_DETECTED = 0.95
"""Least share of unseen prompts about the subjects on which the decision has to act."""
MOST_FALSE_ALARMS = 0.02
"""Largest share of unseen prompts about others on which it may act."""
LEAST_AUC = 0.95
"""Least probability that a prompt about the subjects scores above another one."""


@dataclass(frozen=True)
class Measure:
    """One measured figure beside its bound; `passed` is None where nothing was measured, which is no pass."""

    name: str
    value: float | None
    bound: float
    at_most: bool
    passed: bool | None
    advice: str

    def line(self) -> str:
        """The figure in words, for a terminal."""
        bound = f"{'at most' if self.at_most else 'at least'} {self.bound:g}"
        if self.value is None:
            return f"{self.name}: not measured ({bound} is wanted)"
        return f"{self.name}: {self.value:.3f} ({bound} is wanted){'' if self.passed else ': ' + self.advice}"


@dataclass(frozen=True)
class Verdict:
    """What the calibration of an eraser shows, on prompts that it was not fitted on."""

    passed: bool
    measures: tuple[Measure, ...]

    def lines(self) -> list[str]:
        """Every figure, and what follows from them."""
        if self.passed:
            return [*(m.line() for m in self.measures), "verdict: it passed its own calibration"]
        return [*(m.line() for m in self.measures), f"verdict: NOT VERIFIED ({self.missed()})"]

    def missed(self) -> str:
        """Names of the figures that miss their bound or were not measured."""
        return ", ".join(m.name for m in self.measures if not m.passed)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def verdict_of(config: EraserConfig) -> Verdict:
    """The verdict on an eraser, from its manifest.

    Policies without a threshold take no decision. For them only the order of the scores counts.
    """
    found = config.calibration
    advice = "the gate cannot tell these prompts from others: give more pictures"
    measures = [_measure("AUC", found.auc, LEAST_AUC, False, advice)]
    if config.policy.phi == "threshold":
        measures = [
            _measure("detected", found.detected, LEAST_DETECTED, False, "give more pictures, or the names"),
            _measure("false alarms", found.false_alarms, MOST_FALSE_ALARMS, True, "give more retain prompts"),
            *measures,
            *_promise(found),
            *_traffic(config.verification),
        ]
    return Verdict(all(m.passed for m in measures), tuple(measures))


def _promise(found: Calibration) -> list[Measure]:
    """Whether the false alarms can be those that the thresholds promise: the interval has to reach down to them."""
    promised, interval = found.false_alarm_rate_promised, found.false_alarms_interval
    if promised is None or interval is None:
        return []
    advice = f"the thresholds promise {promised:.3f}: the retain set does not show the traffic; give --traffic"
    return [_measure("false alarms, lower end", interval[0], promised, True, advice)]


def _traffic(found: Mapping[str, float]) -> list[Measure]:
    """The share of false alarms on the user's own traffic, if it was measured."""
    if ALARMS not in found:
        return []
    advice = f"of {found[PROMPTS]:.0f} prompts {found[ALARMS]:.3f} are refused: add such prompts to the retain set"
    return [_measure("false alarms on traffic", found[ALARMS], MOST_FALSE_ALARMS, True, advice)]


def _measure(name: str, value: float | None, bound: float, at_most: bool, advice: str) -> Measure:
    passed = None if value is None else value <= bound if at_most else value >= bound
    return Measure(name, value, bound, at_most, passed, advice)
