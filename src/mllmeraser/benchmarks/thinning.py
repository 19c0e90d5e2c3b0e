"""Smaller sets that keep as many people and as many different questions as possible."""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.samples.sample import Sample

GOLDEN = (5**0.5 - 1) / 2


def thin(samples: Sequence[Sample], per_cell: int) -> list[Sample]:
    """At most `per_cell` samples of each task and modality, taken from as many people as possible.

    People take turns. Each begins one sample further than the person before, because the samples of all people come in
    the same order and would ask the same thing. The turns are spread evenly over the order of the people, because
    neighbours in a data set may be similar. The result is deterministic and keeps the order of `samples`.
    """
    cells: dict[tuple[str, str], dict[str, list[int]]] = {}
    for index, sample in enumerate(samples):
        people = cells.setdefault((sample.task, sample.modality), {})
        people.setdefault(sample.subject or sample.id, []).append(index)
    kept: set[int] = set()
    for people in cells.values():
        # Multiples of the golden ratio, modulo 1: every prefix of this order is spread evenly.
        spread = [own for _, own in sorted(enumerate(people.values()), key=lambda entry: entry[0] * GOLDEN % 1.0)]
        order = [
            own[(turn + number) % len(own)]
            for turn in range(max(map(len, spread)))
            for number, own in enumerate(spread)
            if turn < len(own)
        ]
        kept.update(order[:per_cell])
    return [sample for index, sample in enumerate(samples) if index in kept]
