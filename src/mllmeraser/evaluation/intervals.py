"""Intervals of shares and of paired differences: Wilson, and bootstrap over people.

Items about one person are not independent, so an interval over items alone is too narrow. The bootstrap draws
whole people. If all people score the same, its interval has no width; Wilson's interval still does.
`share_interval` is the wider of the two on either side.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mllmeraser.samples import intervals
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


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share (Wilson 1927); (0, 1) for `n` = 0."""
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes of {n} items make no share")
    low, high = intervals.wilson(successes, n, NormalDist().inv_cdf((1 + level) / 2))
    # At the ends the formula is exact on paper and has a rounding error in floating point.
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == n else high)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a mean; the bootstrap draws whole clusters (people) with replacement."""
    means = _bootstrap_means(values, clusters, seed, draws)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def share_interval(correct: Sequence[bool], people: Sequence[Hashable], *, seed: int = 0) -> Interval:
    """The interval reported with a share: Wilson's over items, widened to the bootstrap's over people."""
    item = wilson(sum(correct), len(correct))
    if len(set(people)) < 2:
        return item
    person = cluster_bootstrap([float(c) for c in correct], people, seed=seed)
    return Interval(min(item.low, person.low), max(item.high, person.high))


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
