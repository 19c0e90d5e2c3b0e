"""From answers and decisions to checks: a share, its interval, its threshold, and whether it is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mllmeraser.evaluation.intervals import share_interval, wilson
from mllmeraser.serving.verify.facts import Asked, facts, forgotten, frames
from mllmeraser.serving.verify.thresholds import AT_MOST, Thresholds

DETACHED = "detached_identical"
_DIGITS = 6


@dataclass(frozen=True)
class Check:
    """One thing measured.

    Attributes:
        name: Which; the field of `Thresholds` of the same name says what it means.
        value: Share measured; None where there was nothing to measure it on.
        low: Lower end of the 95 % interval.
        high: Upper end.
        threshold: What was asked for.
        at_most: Whether the value must not be above the threshold; else it must not be below.
        n: Prompts behind the value.
        passed: Whether it is good enough.
        reason: In a few words, why it is or is not; no personal data.
    """

    name: str
    value: float | None
    low: float
    high: float
    threshold: float
    at_most: bool
    n: int
    passed: bool
    reason: str


def all_checks(groups: dict[str, list[Asked]], *, decides: bool, identical: bool, bounds: Thresholds) -> list[Check]:
    """Every check that the groups of prompts allow.

    Args:
        groups: Prompts by group: `forget`, `rest`, `neighbours`, `retain`, `general`, `perception`.
        decides: Whether the eraser takes decisions; one without a threshold acts on everything a little.
        identical: Whether the model gave the same logits, bit for bit, before the eraser and after it.
        bounds: What is asked for.
    """
    forget, retained = groups["forget"], [*groups["retain"], *groups["general"]]
    found = []
    if decides:
        found.append(_check("forget_decisions", [(one, one.fired) for one in forget], bounds))
    found.append(_answers(groups, decides, bounds))
    found.append(_check("forget_gibberish", [(one, one.broken) for one in forget], bounds))
    for name in ("rest", "neighbours", "retain", "general", "perception"):
        if groups[name]:
            found.append(_check(f"{name}_unchanged", [(one, one.same) for one in groups[name]], bounds))
    if decides:
        found.append(_false_alarms(retained, bounds))
    return [*found, _detached(identical)]


def _answers(groups: dict[str, list[Asked]], decides: bool, bounds: Thresholds) -> Check:
    """How much of what the bare model tells about the subjects is gone.

    If it tells nothing, the decision alone has to show that the eraser is theirs; without one nothing does.
    """
    known = facts(groups["forget"], frames([*groups["retain"], *groups["neighbours"]]))
    told = [(one, forgotten(one, known)) for one in groups["forget"] if one.tells]
    if told:
        return _check("forget_answers", told, bounds)
    reason = "the bare model tells nothing about the subjects, so there was no answer to forget"
    return Check("forget_answers", None, 0.0, 1.0, bounds.forget_answers, False, 0, decides, reason)


def _check(name: str, counted: Sequence[tuple[Asked, bool]], bounds: Thresholds) -> Check:
    """A share; its interval is over people where there are several, and never narrower than Wilson's."""
    hits = [hit for _, hit in counted]
    people = [one.sample.subject or f"item {i}" for i, (one, _) in enumerate(counted)]
    interval = share_interval(hits, people)
    parts = _by_modality(counted) if name.startswith("forget_") else ""
    return _made(name, sum(hits), len(hits), interval.low, interval.high, bounds, parts)


def _by_modality(counted: Sequence[tuple[Asked, bool]]) -> str:
    """Pictures and names apart, where there are both: they are found by gates of their own."""
    by_picture = [hit for one, hit in counted if one.sample.image is not None]
    by_name = [hit for one, hit in counted if one.sample.image is None]
    if not by_picture or not by_name:
        return ""
    return f" ({sum(by_picture)} of {len(by_picture)} by picture, {sum(by_name)} of {len(by_name)} by name)"


def _false_alarms(retained: Sequence[Asked], bounds: Thresholds) -> Check:
    fired = sum(one.fired for one in retained)
    interval = wilson(fired, len(retained))
    return _made("false_alarms", fired, len(retained), interval.low, interval.high, bounds)


def _made(name: str, hits: int, n: int, low: float, high: float, bounds: Thresholds, parts: str = "") -> Check:
    threshold, at_most = getattr(bounds, name), name in AT_MOST
    passed = bounds.allows(name, hits / n)
    relation = "at most" if at_most else "at least"
    reason = f"{hits} of {n}{parts}; {relation} {threshold:g} is asked for"
    low, high = round(low, _DIGITS), round(high, _DIGITS)
    return Check(name, round(hits / n, _DIGITS), low, high, threshold, at_most, n, passed, reason)


def _detached(identical: bool) -> Check:
    value = float(identical)
    same = "the logits before and after are the same bit for bit"
    other = "the logits after detaching differ from those before"
    return Check(DETACHED, value, value, value, 1.0, False, 1, identical, same if identical else other)
