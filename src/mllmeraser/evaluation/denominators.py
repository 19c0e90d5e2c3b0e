"""Whether a published percentage can come from a protocol: shares of n items are exact multiples of 1/n.

Any other figure is an average over runs, counts other items, or comes from another protocol than it says. It cannot
be compared with a figure that passes.
"""

from __future__ import annotations

import math
from fractions import Fraction

from mllmeraser.evaluation.few_shot import people_shown
from mllmeraser.evaluation.protocols import get_protocol
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Task


def scored_items(protocol: str, name: str, task: Task, *, people: int, per_person: int, family: str = "llava") -> int:
    """The number of items in a cell of the score table.

    Args:
        protocol: Id of the protocol.
        name: The set: forget, test, retain or celebrity.
        task: The task.
        people: People in the set, including those shown in context.
        per_person: Items about each person in one modality (MLLMU-Bench: 5 of classification, 2 of other tasks).
        family: Family of the model.

    Raises:
        InputError: Unknown protocol, or no one is left to ask about.
    """
    skipped = people_shown(name, task, family) if get_protocol(protocol).few_shot else 0
    if people <= skipped or per_person < 1:
        raise InputError(f"{people} people with {per_person} items each leave nothing to count")
    return (people - skipped) * per_person


def matching_count(percentage: str, n: int) -> int | None:
    """How many of `n` items give the percentage as printed; None if no number does.

    `percentage` is text, such as "56.80" or "56.80 %", because its decimals show the step of the rounding. If 100/n is
    below that step, any percentage passes.

    Raises:
        InputError: Not a percentage between 0 and 100, or no items.
    """
    text = percentage.strip().rstrip("%").strip()
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{percentage!r} is not a percentage") from None
    if "/" in text or "e" in text.casefold() or not 0 <= value <= 100:
        raise InputError(f"{percentage!r} is not a percentage between 0 and 100 in decimals")
    if n < 1:
        raise InputError(f"a share of {n} items says nothing")
    # Half a unit of the last digit either way, both ends included: programs round halves up or to even.
    slack = Fraction(1, 2 * 10 ** len(text.partition(".")[2]))
    low, high = math.ceil((value - slack) * n / 100), math.floor((value + slack) * n / 100)
    return max(low, 0) if max(low, 0) <= min(high, n) else None
