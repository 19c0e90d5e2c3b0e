"""Training data: items with answers, and their order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class Item:
    """A question and the answer that a loss uses."""

    sample: Sample
    answer: str


@dataclass(frozen=True)
class TrainingData:
    """Items of both sides; `retain` is empty if a method needs none.

    Attributes:
        forget: Items of the forget steps.
        retain: Items of the retain steps.
        preserved: Further items, used only to compute a mask.
    """

    forget: tuple[Item, ...]
    retain: tuple[Item, ...] = ()
    preserved: tuple[Item, ...] = ()


def answered(samples: Iterable[Sample], role: str, method: str) -> tuple[Item, ...]:
    """The samples with their gold answers (else the first keyword).

    Raises:
        InputError: There are none, or one has no answer. Skipping it would train on less than the user asked for.
    """
    items = []
    for sample in samples:
        answer = sample.answer or (sample.keywords[0] if sample.keywords else None)
        if not answer:
            raise InputError(
                f"{method} learns from answers, and the {role} sample {sample.id or sample.question!r} has none: "
                "use samples with answers (pictures and added wordings alone have none)"
            )
        items.append(Item(sample, answer))
    if not items:
        raise InputError(f"{method} needs {role} samples, and the request has none")
    return tuple(items)


@dataclass(frozen=True)
class Stream:
    """Endless batches of row numbers; batch `k` depends only on the fields and `k`, so a training can resume.

    Every pass takes each row once, shuffled by (seed, name, pass). The last batch of a pass may be smaller.
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
