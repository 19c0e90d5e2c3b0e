"""Reproducible random streams that depend on their name alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from mllmeraser.samples.hashing import hash64

T = TypeVar("T")


class Stream:
    """A random stream with the name ``path``, such as ``("portraits", 0, "person", 17)``.

    Python specifies the sequence of ``random.Random(int).random()`` for all versions, but not that of ``choice``,
    ``shuffle`` or ``sample``; so those are written here.
    """

    def __init__(self, *path: str | int) -> None:
        self.path = path
        self._random = random.Random(hash64(*(f"{type(part).__name__}:{part}" for part in path), separator="\x1f"))

    def child(self, *path: str | int) -> Stream:
        """Return the stream at a longer path, independent of the draws from this one."""
        return Stream(*self.path, *path)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a float in ``[low, high)``."""
        return low + (high - low) * self._random.random()

    def integer(self, n: int) -> int:
        """Return an integer in ``[0, n)``."""
        if n < 1:
            raise ValueError("integer() needs a positive bound")
        return min(int(self._random.random() * n), n - 1)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random.random() < probability

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values, all equally likely."""
        return values[self.integer(len(values))]

    def shuffle(self, values: Sequence[T]) -> list[T]:
        """Return a shuffled copy (Fisher-Yates); the argument stays as it is."""
        result = list(values)
        for last in range(len(result) - 1, 0, -1):
            other = self.integer(last + 1)
            result[last], result[other] = result[other], result[last]
        return result

    def sample(self, values: Sequence[T], k: int) -> list[T]:
        """Return the values at ``k`` different positions, in random order."""
        if not 0 <= k <= len(values):
            raise ValueError(f"cannot sample {k} of {len(values)} values")
        return self.shuffle(values)[:k]
