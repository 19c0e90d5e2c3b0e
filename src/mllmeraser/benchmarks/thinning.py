"""A smaller set that still asks about as many people, and as many different things, as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mllmeraser.samples.sample import Sample

GOLDEN = (5**0.5 - 1) / 2
Item = TypeVar("Item")


def thin(samples: Sequence[Sample], per_cell: int) -> list[Sample]:
    """At most `per_cell` samples of each task and modality, taken from as many people as possible.

    People take turns, each beginning one sample further than the one before: else everybody would be asked the same
    thing, for the samples of each come in the same order. Whoever is asked first is spread evenly over their order, not
    the first of them: neighbours in a data set may have more in common than their place. The result is the same every
    time and keeps the order of `samples`.
    """
    cells: dict[tuple[str, str], dict[str, list[int]]] = {}
    for index, sample in enumerate(samples):
        people = cells.setdefault((sample.task, sample.modality), {})
        people.setdefault(sample.subject or sample.id, []).append(index)
    kept: set[int] = set()
    for people in cells.values():
        turns = max(len(indices) for indices in people.values())
        order = [
            indices[(turn + number) % len(indices)]
            for turn in range(turns)
            for number, indices in enumerate(_spread(list(people.values())))
            if turn < len(indices)
        ]
        kept.update(order[:per_cell])
    return [sample for index, sample in enumerate(samples) if index in kept]


def _spread(items: Sequence[Item]) -> list[Item]:
    """The items in an order of which every beginning is spread evenly: by multiples of the golden ratio, modulo 1."""
    return [item for _, item in sorted(enumerate(items), key=lambda entry: entry[0] * GOLDEN % 1.0)]
