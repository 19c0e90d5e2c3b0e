"""Can a published percentage come from a given protocol? Shares of n items are exact multiples of 1/n.

A figure that is no multiple was averaged over runs, counts other items, or was made by another protocol than it
says: it then cannot be put beside one that is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from mllmeraser.evaluation.few_shot import people_shown
from mllmeraser.evaluation.protocols import get_protocol
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Task


def scored_items(protocol: str, name: str, task: Task, *, people: int, per_person: int, family: str = "llava") -> int:
    """How many items a cell of the score table counts.

    Args:
        protocol: Id of the protocol.
        name: The set: forget, test, retain or celebrity.
        task: The task.
        people: People in the set, those shown in context included.
        per_person: Items about each of them (image and text apart; MLLMU-Bench: 5 of classification, 2 of others).
        family: Family of the model.

    Raises:
        InputError: Unknown protocol, or nobody is left to ask about.
    """
    skipped = people_shown(name, task, family) if get_protocol(protocol).few_shot else 0
    if people <= skipped or per_person < 1:
        raise InputError(f"{people} people with {per_person} items each leave nothing to count")
    return (people - skipped) * per_person


def matching_count(percentage: str, n: int) -> int | None:
    """How many of `n` items give a percentage as printed, or None if no number does.

    Args:
        percentage: As printed, such as "56.80" or "56.80 %": its decimals say how finely it was rounded. Where 100/n
            is below that step, anything passes.
        n: Items.

    Raises:
        InputError: Not a percentage between 0 and 100, or no items.
    """
    text = percentage.strip().rstrip("%").strip()
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{percentage!r} is no percentage") from None
    if "/" in text or "e" in text.casefold() or not 0 <= value <= 100:
        raise InputError(f"{percentage!r} is no percentage between 0 and 100 in decimals")
    if n < 1:
        raise InputError(f"a share of {n} items says nothing")
    # Half a unit of the last digit either way, its ends included: programs round halves up or to even.
    slack = Fraction(1, 2 * 10 ** len(text.partition(".")[2]))
    low, high = math.ceil((value - slack) * n / 100), math.floor((value + slack) * n / 100)
    return max(low, 0) if max(low, 0) <= min(high, n) else None


def possible_denominators(percentage: str, candidates: Iterable[int]) -> tuple[int, ...]:
    """Those of `candidates` that a percentage can be a share of."""
    return tuple(n for n in candidates if matching_count(percentage, n) is not None)
