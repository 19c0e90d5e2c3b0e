"""Moments of states: count, sum and second moment, float64 and additive. At most one block of states is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.models.capture import require_finite
from mllmeraser.samples.errors import InputError

BLOCK_BYTES = 64 * 2**20
"""Size of a block of float32 states: 4096 states of width 4096. Blocks are summed one by one.
States that fit into one block are summed whole, in the order of the samples."""


def block_rows(width: int) -> int:
    """Return how many states of `width` fit into a block, at least 1."""
    return max(1, BLOCK_BYTES // (4 * width))


def gram_of(rows: Tensor) -> Tensor:
    """Return rows^T rows of (n, d): (d, d) float64, exactly symmetric, on the CPU.

    The product is computed on the device of `rows`. On the CPU numpy calls BLAS syrk, which does half the work.
    """
    rows = rows.double().contiguous()
    if rows.device.type != "cpu":
        product = (rows.T @ rows).cpu()
        return (product + product.T) / 2
    array = rows.numpy()
    return torch.from_numpy(array.T @ array)


@dataclass(frozen=True)
class Moments:
    """Moments of a set of states.

    Attributes:
        n: Number of states.
        total: (d,) float64, sum of the states.
        gram: (d, d) float64, uncentred sum of h^T h; None if only the mean is needed, or `rows` is kept.
        rows: (n, d), the states themselves while n < d, where they are smaller than `gram`; else None.
    """

    n: int
    total: Tensor
    gram: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def from_states(cls, states: Tensor, *, gram: bool = True) -> Moments:
        """Return the moments of finite `states` (n, d); `gram=False` keeps the sum alone."""
        if states.ndim != 2:
            raise InputError(f"states are a matrix (n, d), not of shape {tuple(states.shape)}")
        kept = require_finite(states, "states").detach().cpu()
        rows = kept.double()
        if gram and rows.shape[0] < rows.shape[1]:
            return cls(rows.shape[0], rows.sum(0), rows=kept.clone())
        return cls(rows.shape[0], rows.sum(0), gram_of(rows) if gram else None)

    @property
    def width(self) -> int:
        """Length d of a state."""
        return self.total.shape[0]

    @property
    def mean(self) -> Tensor:
        """(d,) float64 mean state; an `InputError` without states."""
        if self.n == 0:
            raise InputError("there is no mean of no states")
        return self.total / self.n

    @property
    def second(self) -> Tensor:
        """(d, d) float64 sum of h^T h; an `InputError` if only the sum was kept."""
        if self.rows is not None:
            return gram_of(self.rows)
        if self.gram is None:
            raise InputError("these moments hold means only: capture this layer as a read layer")
        return self.gram

    @property
    def squared(self) -> bool:
        """Whether the second moment is known."""
        return self.gram is not None or self.rows is not None

    def covariance(self, shrink: float = 0.0) -> Tensor:
        """Return the shrunk (d, d) covariance (1 - shrink) S + shrink tr(S)/d I, `shrink` in [0, 1]."""
        if not 0.0 <= shrink <= 1.0:
            raise InputError(f"shrink lies in [0, 1], not {shrink}")
        mean = self.mean
        centred = self.second / self.n - torch.outer(mean, mean)
        centred = (centred + centred.T) / 2
        level = centred.diagonal().mean().clamp_min(0.0)
        return (1.0 - shrink) * centred + shrink * level * torch.eye(self.width, dtype=torch.float64)

    def __add__(self, other: Moments) -> Moments:
        if self.width != other.width:
            raise InputError(f"states of width {self.width} and {other.width} do not add up")
        if self.squared != other.squared:
            raise InputError("moments with and without second moments do not add up")
        n, total = self.n + other.n, self.total + other.total
        if n < self.width and self.rows is not None and other.rows is not None:
            return Moments(n, total, rows=torch.cat([self.rows, other.rows]))
        return Moments(n, total, self.second + other.second if self.squared else None)


class MomentAccumulator:
    """Moments of one group of states at one layer, summed as the states arrive."""

    def __init__(self, width: int, *, gram: bool = True, device: torch.device | None = None) -> None:
        """Start empty, for states (width,); blocks are multiplied on `device` (None: the CPU)."""
        self._width, self._gram, self._device = width, gram, device or torch.device("cpu")
        self._held: list[Tensor] = []
        self._numbers: list[int] = []
        self._folded: Moments | None = None

    def add(self, rows: Tensor, numbers: Iterable[int] | None = None) -> None:
        """Add finite states (n, d); each block is sorted by `numbers`, the numbers of their samples."""
        limit = block_rows(self._width)
        numbers = list(numbers if numbers is not None else range(len(self._numbers), len(self._numbers) + len(rows)))
        for start in range(0, len(rows), limit):
            part = rows[start : start + limit]
            if len(self._numbers) + len(part) > limit:
                self._fold()
            self._held.append(part.detach().float().cpu())
            self._numbers += numbers[start : start + limit]

    def moments(self) -> Moments:
        """Return the moments of all states added so far."""
        if self._folded is None:
            return Moments.from_states(self._block(), gram=self._gram)
        self._fold()
        return self._folded

    def _block(self) -> Tensor:
        """Hand over the held states (n, d), in the order of their samples."""
        order = torch.tensor(self._numbers, dtype=torch.long).argsort(stable=True)
        rows = torch.cat([torch.empty(0, self._width), *self._held])
        self._held, self._numbers = [], []
        return rows if bool((order.diff() == 1).all()) else rows[order]

    def _fold(self) -> None:
        if not self._numbers:
            return
        rows = require_finite(self._block(), "states").to(self._device)
        block = Moments(len(rows), rows.double().sum(0).cpu(), gram_of(rows) if self._gram else None)
        self._folded = block if self._folded is None else self._folded + block


def summed(states: Iterable[Tensor], width: int, *, gram: bool = True) -> Moments:
    """Return the moments of all matrices (n, width), which may be computed one by one."""
    sums = MomentAccumulator(width, gram=gram)
    for rows in states:
        sums.add(rows)
    return sums.moments()


def blocks(states: Iterable[Tensor], width: int) -> Iterator[list[Tensor]]:
    """Group matrices (n, width), in order, into lists of at most one block of rows and at least one matrix."""
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
