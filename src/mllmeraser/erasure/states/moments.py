"""Moments of states that come a few at a time: never more than a block of them is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mllmeraser.erasure.states.statistics import Moments, gram_of, require_finite

BLOCK_BYTES = 64 * 2**20
"""Of float32 states that are held before they are summed: 4096 states of width 4096, a hundred thousand of width 160.
What fits into one block is summed as a whole, in the order of the samples: to the bit as if it had never been split."""


def block_rows(width: int) -> int:
    """States (rows) of a width that make a block, at least 1."""
    return max(1, BLOCK_BYTES // (4 * width))


class MomentAccumulator:
    """Moments of one group of states at one HookPoint, added up as the states come."""

    def __init__(self, width: int, *, gram: bool = True, device: torch.device | None = None) -> None:
        """No states yet.

        Args:
            width: Length d of a state.
            gram: Whether second moments are wanted; else the sum alone.
            device: Where blocks are multiplied; None: the CPU.
        """
        self._width, self._gram = width, gram
        self._device = device or torch.device("cpu")
        self._held: list[Tensor] = []
        self._numbers: list[int] = []
        self._folded: Moments | None = None

    def add(self, rows: Tensor, numbers: Iterable[int] | None = None) -> None:
        """Take states (n, d); `numbers` say which samples they are of, by which a block is ordered.

        Raises:
            NumericalError: A state is not finite.
        """
        limit = block_rows(self._width)
        numbers = list(numbers if numbers is not None else range(len(self._numbers), len(self._numbers) + len(rows)))
        for start in range(0, len(rows), limit):
            part = rows[start : start + limit]
            if len(self._numbers) + len(part) > limit:
                self._fold()
            self._held.append(part.detach().float().cpu())
            self._numbers += numbers[start : start + limit]

    def moments(self) -> Moments:
        """Moments of all that was added; the states themselves where they are fewer than dimensions."""
        if self._folded is None:
            return Moments.from_states(self._block(), gram=self._gram)
        self._fold()
        return self._folded

    def _block(self) -> Tensor:
        """(n, d) what is held, in the order of the samples; nothing is held any more."""
        order = torch.tensor(self._numbers, dtype=torch.long).argsort(stable=True)
        rows = torch.cat([torch.empty(0, self._width), *self._held])
        self._held, self._numbers = [], []
        return rows if bool((order.diff() == 1).all()) else rows[order]

    def _fold(self) -> None:
        if not self._numbers:
            return
        rows = require_finite(self._block(), "states").to(self._device)
        squares = gram_of(rows) if self._gram else None
        block = Moments(len(rows), rows.double().sum(0).cpu(), squares)
        self._folded = block if self._folded is None else self._folded + block


def summed(states: Iterable[Tensor], width: int, *, gram: bool = True) -> Moments:
    """Moments over matrices of states (n, width), which may be made one by one."""
    sums = MomentAccumulator(width, gram=gram)
    for rows in states:
        sums.add(rows)
    return sums.moments()


def blocks(states: Iterable[Tensor], width: int) -> Iterator[list[Tensor]]:
    """Groups of matrices (n, width), in order, of at most a block of rows each, and at least one matrix."""
    held: list[Tensor] = []
    rows = 0
    for matrix in states:
        if held and rows + len(matrix) > block_rows(width):
            yield held
            held, rows = [], 0
        held.append(matrix)
        rows += len(matrix)
    if held:
        yield held
