"""Intervals and tests for shares: Wilson, bootstrap over people, McNemar, paired differences, Holm.

Items about one person are not independent, so an interval over items alone is too narrow. The bootstrap draws
whole people. It says nothing where everybody scores the same, which is where Wilson's interval still does;
`share_interval` is the wider of the two on either side.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mllmeraser.samples.errors import InputError

LEVEL = 0.95
DRAWS = 2000
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of `a` minus mean of `b` over the same items, with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact McNemar test: items that only `a` gets right, that only `b` does, and the two-sided p-value."""

    only_a: int
    only_b: int
    p: float


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share (Wilson 1927); `n` = 0 says nothing: (0, 1)."""
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n} items make no share")
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the formula is exact on paper and off by a rounding in floating point.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a mean when whole clusters (people) are drawn with replacement."""
    means = _bootstrap_means(values, clusters, seed, draws)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def share_interval(correct: Sequence[bool], people: Sequence[Hashable], *, seed: int = 0) -> Interval:
    """The interval reported with a share: Wilson's over items widened to the bootstrap's over people."""
    item = wilson(sum(correct), len(correct))
    if len(set(people)) < 2:
        return item
    person = cluster_bootstrap([float(c) for c in correct], people, seed=seed)
    return Interval(min(item.low, person.low), max(item.high, person.high))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> McNemar:
    """Exact two-sided McNemar test of two methods on the same items."""
    _same_length(a, b)
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, k) for k in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**discordant))


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Difference:
    """Mean of `a` minus mean of `b` over the same items, with a bootstrap interval over people."""
    _same_length(a, b)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    interval = cluster_bootstrap(differences, clusters, seed=seed, draws=draws, level=level)
    return Difference(math.fsum(differences) / len(differences), interval.low, interval.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for many comparisons (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _bootstrap_means(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int, draws: int
) -> NDArray[np.float64]:
    _same_length(values, clusters)
    if len(values) == 0:
        raise InputError("a bootstrap needs at least one item")
    number = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    codes = np.fromiter((number[cluster] for cluster in clusters), dtype=np.int64, count=len(clusters))
    totals = np.bincount(codes, weights=np.asarray(values, dtype=np.float64), minlength=len(number))
    sizes = np.bincount(codes, minlength=len(number)).astype(np.float64)
    rng = np.random.default_rng(seed)
    even = np.full(len(number), 1 / len(number))
    means = []
    for start in range(0, draws, _CHUNK):  # a chunk at a time: draws x people can be large
        counts = rng.multinomial(len(number), even, size=min(_CHUNK, draws - start))
        means.append(counts @ totals / (counts @ sizes))
    return np.concatenate(means)


def _same_length(a: Sequence[object], b: Sequence[object]) -> None:
    if len(a) != len(b):
        raise InputError(f"paired values must have one length, not {len(a)} and {len(b)}")
