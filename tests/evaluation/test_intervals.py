"""Intervals against closed forms, simulation and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllmeraser.evaluation.intervals import (
    cluster_bootstrap,
    paired_difference,
    share_interval,
    wilson,
)
from mllmeraser.samples import InputError


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_wilson_holds_the_share(case: tuple[int, int]) -> None:
    successes, n = case
    interval = wilson(successes, n)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1
    mirrored = wilson(n - successes, n)
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_wilson_agrees_with_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="statsmodels (extra: bench)")
    for successes, n, level in [(0, 9, 0.95), (9, 9, 0.9), (50, 100, 0.95), (1, 2000, 0.99), (63, 125, 0.95)]:
        wanted = proportion.proportion_confint(successes, n, alpha=1 - level, method="wilson")
        found = wilson(successes, n, level)
        assert (found.low, found.high) == pytest.approx(wanted, abs=1e-12)


def test_wilson_by_hand() -> None:
    assert wilson(125 // 2, 125).high - wilson(125 // 2, 125).low == pytest.approx(2 * 0.086, abs=0.002)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    with pytest.raises(InputError):
        wilson(3, 2)


def test_bootstrap_is_seeded_and_wider_for_clustered_items() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 10)
    alike = np.repeat(rng.random(40) < 0.5, 10).astype(float)
    mixed = (rng.random(400) < 0.5).astype(float)
    by_person = cluster_bootstrap(alike, people.tolist(), seed=1)
    by_item = cluster_bootstrap(mixed, people.tolist(), seed=1)
    assert by_person == cluster_bootstrap(alike, people.tolist(), seed=1)
    uneven = rng.random(400)
    assert cluster_bootstrap(uneven, people.tolist(), seed=1) != cluster_bootstrap(uneven, people.tolist(), seed=2)
    assert by_person.high - by_person.low > 2 * (by_item.high - by_item.low)
    # Forty people of whom half score 1: the standard error of a share of forty.
    assert by_person.high - by_person.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.2)


def test_bootstrap_weighs_people_by_their_items() -> None:
    interval = cluster_bootstrap([1.0] * 99 + [0.0], ["a"] * 99 + ["b"], draws=4000)
    assert interval.low == 0.0 and interval.high == 1.0
    with pytest.raises(InputError, match="one length"):
        cluster_bootstrap([1.0], ["a", "b"])
    with pytest.raises(InputError, match="at least one"):
        cluster_bootstrap([], [])


def test_share_interval_never_pretends_certainty() -> None:
    interval = share_interval([True] * 20, [f"p{i // 5}" for i in range(20)])
    assert interval.high == 1.0 and 0.8 < interval.low < 0.9
    clustered = share_interval([True] * 50 + [False] * 50, [f"p{i // 25}" for i in range(100)])
    assert (clustered.low, clustered.high) == (0.0, 1.0)
    assert share_interval([True, False], ["a", "a"]) == wilson(1, 2)


def test_paired_difference_is_tighter_than_two_intervals() -> None:
    rng = np.random.default_rng(3)
    base = (rng.random(300) < 0.5).astype(float)
    better = np.minimum(1, base + (rng.random(300) < 0.1))
    people = [i // 6 for i in range(300)]
    difference = paired_difference(better.tolist(), base.tolist(), people)
    assert difference.low <= difference.mean <= difference.high
    assert difference.mean == pytest.approx(float((better - base).mean()))
    assert difference.low > 0
