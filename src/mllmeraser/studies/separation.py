"""How well a score of answers tells two groups of people apart: the area under the curve, with people drawn anew.

Answers about one person are alike, so the interval draws people, of both groups, with replacement. An area below a
half separates as well as one above: whoever attacks may know the sign from somebody they know to be deleted. So
`betrays` is the larger of the area and its complement; with few people it lies above a half by chance alone, and the
interval of the area itself says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mllmeraser.evaluation.intervals import DRAWS, LEVEL
from mllmeraser.samples.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Area:
    """Area under the curve, forgotten above strangers.

    Attributes:
        auc: Probability that a forgotten answer (or person) scores higher than a stranger's, ties counted half.
        low: Lower end of its 95 % interval over people.
        high: Upper end.
        betrays: The larger of `auc` and its complement.
    """

    auc: float
    low: float
    high: float
    betrays: float


@dataclass(frozen=True, slots=True)
class Separation:
    """The area over single answers, and over people (each person's mean score)."""

    answer: Area
    person: Area

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Plain numbers for a report."""
        return asdict(self)


def separation(
    scores: Sequence[float],
    people: Sequence[str],
    forgotten: Sequence[str],
    *,
    folds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Separation:
    """How well ``scores`` of answers, each about one of ``people``, tell the ``forgotten`` from all others.

    Args:
        scores: One for each answer.
        people: Whom each answer is about.
        forgotten: Keys of the people of the first group.
        folds: Where scores come from a model learnt on other people, the fold of each person: scores of different
            folds come from different models and are not compared.
        seed: Of the draws.

    Raises:
        InputError: If a group is empty, or no two people can be compared.
    """
    by_person: dict[str, list[float]] = {}
    for score, person in zip(scores, people, strict=True):
        by_person.setdefault(person, []).append(score)
    first = [key for key in by_person if key in set(forgotten)]
    second = [key for key in by_person if key not in set(forgotten)]
    if not first or not second:
        raise InputError("separation needs answers about forgotten people and about others")
    comparable = np.array([[folds is None or folds[a] == folds[b] for b in second] for a in first], dtype=np.float64)
    if not comparable.any():
        raise InputError("no forgotten person is in one fold with somebody else")
    single = np.array([[_wins(by_person[a], by_person[b]) for b in second] for a in first])
    mean = {key: [float(np.mean(found))] for key, found in by_person.items()}
    whole = np.array([[_wins(mean[a], mean[b]) for b in second] for a in first])
    sizes = np.outer([len(by_person[a]) for a in first], [len(by_person[b]) for b in second]).astype(np.float64)
    return Separation(_area(single, comparable * sizes, seed), _area(whole, comparable, seed))


def deal(forgotten: Sequence[str], others: Sequence[str], folds: int) -> dict[str, int]:
    """Everybody's fold: both groups are dealt out in turn, so that each fold has its share of both."""
    return {key: i % folds for group in (forgotten, others) for i, key in enumerate(group)}


def _wins(high: Sequence[float], low: Sequence[float]) -> float:
    """Share of pairs in which the first is larger, ties counted half."""
    ordered = np.sort(np.asarray(low, dtype=np.float64))
    values = np.asarray(high, dtype=np.float64)
    below = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return float(below.mean() / (2 * len(ordered)))


def _area(wins: Floats, weights: Floats, seed: int) -> Area:
    """The weighted mean of ``wins`` (forgotten, others) with its interval when rows and columns are drawn anew."""
    auc = float((wins * weights).sum() / weights.sum())
    rng = np.random.default_rng(seed)
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64) for n in wins.shape)
    total = np.einsum("dr,rc,dc->d", rows, weights, columns, optimize=True)
    hits = np.einsum("dr,rc,dc->d", rows, wins * weights, columns, optimize=True)
    drawn = hits[total > 0] / total[total > 0]  # a draw may leave nobody who can be compared
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Area(auc, float(low), float(high), max(auc, 1 - auc))
