"""The checks of a verification. Each compares a measured share with its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mllmeraser.evaluation.intervals import Interval, share_interval, wilson
from mllmeraser.serving.verify.facts import AnswerPair, facts, forgotten, frames
from mllmeraser.serving.verify.thresholds import AT_MOST, Thresholds

DETACHED = "detached_identical"
_DIGITS = 6


@dataclass(frozen=True)
class Check:
    """One measurement.

    Attributes:
        name: The field of `Thresholds` that explains it, or `DETACHED`.
        value: Measured share; None if no prompt could be used. `low` and `high` are its 95 % interval.
        at_most: Whether the threshold is an upper bound.
        n: Number of prompts behind the value.
        reason: Short explanation of the result, without personal data.
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


def all_checks(
    groups: dict[str, list[AnswerPair]], *, decides: bool, identical: bool, bounds: Thresholds
) -> list[Check]:
    """Every check that the groups of prompts allow.

    Args:
        groups: Answers by group: `forget`, `rest`, `neighbours`, `retain`, `general`, `perception`, and in
            conversations `told` (about subjects) and `talk` (about others).
        decides: Whether the eraser takes decisions. Without a threshold it acts on every prompt a little.
        identical: Whether the logits before attaching and after detaching are equal, bit for bit.
        bounds: The thresholds.
    """
    forget, retained = groups["forget"], [*groups["retain"], *groups["general"]]
    checks = []
    if decides:
        checks.append(_check("forget_decisions", [(one, one.fired) for one in forget], bounds))
    checks.append(_answers("forget_answers", groups["forget"], groups, bounds))
    if any(one.informative for one in groups.get("told", ())):  # a model that does not converse has none
        checks.append(_answers("conversation_answers", groups["told"], groups, bounds))
    if talk := groups.get("talk"):
        checks.append(_check("conversation_unchanged", [(one, one.same) for one in talk], bounds))
    checks.append(_check("forget_gibberish", [(one, one.broken) for one in forget], bounds))
    for name in ("rest", "neighbours", "retain", "general", "perception"):
        if groups[name]:
            checks.append(_check(f"{name}_unchanged", [(one, one.same) for one in groups[name]], bounds))
    if decides:
        interval = wilson(sum(one.fired for one in retained), len(retained))
        checks.append(_check("false_alarms", [(one, one.fired) for one in retained], bounds, interval))
    return [*checks, _detached(identical)]


def _answers(name: str, asked: Sequence[AnswerPair], groups: dict[str, list[AnswerPair]], bounds: Thresholds) -> Check:
    """The share of the bare model's informative answers about the subjects that are gone, of those `asked`.

    If there are none, nothing was checked, and that is no pass.
    """
    known = facts(groups["forget"], frames([*groups["retain"], *groups["neighbours"]]))
    informative = [(one, forgotten(one, known)) for one in asked if one.informative]
    if informative:
        return _check(name, informative, bounds)
    reason = "nothing was checked: the bare model tells nothing about the subjects, so there is no answer to forget"
    return Check(name, None, 0.0, 1.0, getattr(bounds, name), False, 0, False, reason)


def _check(
    name: str, outcomes: Sequence[tuple[AnswerPair, bool]], bounds: Thresholds, interval: Interval | None = None
) -> Check:
    """A share, by default with the interval over people, which is never narrower than Wilson's."""
    hits, n = [hit for _, hit in outcomes], len(outcomes)
    if interval is None:
        interval = share_interval(hits, [one.sample.subject or f"item {i}" for i, (one, _) in enumerate(outcomes)])
    threshold, at_most, share = getattr(bounds, name), name in AT_MOST, sum(hits) / n
    parts = _by_modality(outcomes) if name.endswith("_answers") or name.startswith("forget_") else ""
    reason = f"{sum(hits)} of {n}{parts}; {'at most' if at_most else 'at least'} {threshold:g} is required"
    low, high = round(interval.low, _DIGITS), round(interval.high, _DIGITS)
    return Check(name, round(share, _DIGITS), low, high, threshold, at_most, n, bounds.allows(name, share), reason)


def _by_modality(outcomes: Sequence[tuple[AnswerPair, bool]]) -> str:
    """Separate counts for pictures and names, if there are both: different gates detect them."""
    by_picture = [hit for one, hit in outcomes if one.sample.image is not None]
    by_name = [hit for one, hit in outcomes if one.sample.image is None]
    if not by_picture or not by_name:
        return ""
    return f" ({sum(by_picture)} of {len(by_picture)} by picture, {sum(by_name)} of {len(by_name)} by name)"


def _detached(identical: bool) -> Check:
    value = float(identical)
    same = "the logits before and after are the same bit for bit"
    other = "the logits after detaching differ from those before"
    return Check(DETACHED, value, value, value, 1.0, False, 1, identical, same if identical else other)
