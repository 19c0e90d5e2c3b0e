"""Training data: items with answers, and the order in which they come."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class Item:
    """What is asked, and the answer that a loss looks at."""

    sample: Sample
    answer: str


@dataclass(frozen=True)
class TrainingData:
    """Items of both sides; `retain` is empty where a method needs none.

    Attributes:
        forget: What forget steps look at.
        retain: What retain steps look at.
        preserved: Further items that no step looks at, against which a mask is measured.
    """

    forget: tuple[Item, ...]
    retain: tuple[Item, ...] = ()
    preserved: tuple[Item, ...] = ()


def answered(samples: Iterable[Sample], role: str, method: str) -> tuple[Item, ...]:
    """The samples with their gold answers (else the first keyword).

    Raises:
        InputError: If there are none, or one has no answer. Leaving it out silently would train on less than
            was asked for.
    """
    items = []
    for sample in samples:
        answer = sample.answer or (sample.keywords[0] if sample.keywords else None)
        if not answer:
            raise InputError(
                f"{method} learns from answers, and the {role} sample {sample.id or sample.question!r} has none: "
                "give samples with answers (pictures and added wordings alone have none)"
            )
        items.append(Item(sample, answer))
    if not items:
        raise InputError(f"{method} needs {role} samples, and the request has none")
    return tuple(items)


@dataclass(frozen=True)
class Stream:
    """Endless batches of row numbers; batch `k` depends on nothing but the fields and `k`.

    Every pass shows every row once, shuffled by (seed, name, pass); the last batch of a pass may be smaller.
    So a training that goes on at step k sees what it would have seen without the stop.
    """

    rows: int
    batch_size: int
    seed: int
    name: str

    @property
    def batches(self) -> int:
        """Batches in one pass."""
        return -(-self.rows // self.batch_size)

    def batch(self, number: int) -> list[int]:
        """Row numbers of batch `number`, counted from 0 over all passes."""
        turn, place = divmod(number, self.batches)
        order = list(range(self.rows))
        random.Random(f"{self.seed}/{self.name}/{turn}").shuffle(order)
        return order[place * self.batch_size : (place + 1) * self.batch_size]


def chunks(count: int, size: int) -> list[list[int]]:
    """Row numbers 0 .. count-1 in order, in batches of `size`."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def pick(items: Sequence[Item], rows: Iterable[int]) -> list[Item]:
    """The items with these numbers."""
    return [items[row] for row in rows]
