"""Cells of one row pooled over folds, seeds and modalities, with intervals over people.

Seeds ask the same questions again. So each question counts once, with its mean over seeds. Several folds may ask about
one person. So the bootstrap draws people, with all questions about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

import numpy as np

from mllmeraser.comparison.cells import Cell
from mllmeraser.evaluation import Item
from mllmeraser.evaluation.intervals import LEVEL, cluster_bootstrap, paired_difference, wilson

Metric = Literal["accuracy", "rouge_l"]
Key = tuple[int, str, str]
"""Fold, set and id of a question."""
DRAWS = 2000


@dataclass(frozen=True)
class Value:
    """The score of a row on one question: mean over seeds, person (or else id of the question), and set and task."""

    value: float
    person: str
    cell: tuple[str, str]


@dataclass(frozen=True)
class Pooled:
    """A pooled mean between 0 and 1 with its 95 % interval, over `n` questions of all folds about `people` people."""

    n: int
    people: int
    mean: float
    low: float
    high: float


def values_of(
    cells: Sequence[Cell], metric: Metric = "accuracy", keep: Callable[[Item], bool] = lambda item: True
) -> dict[Key, Value]:
    """The questions of the cells of one row, each with its score."""
    scored: dict[Key, list[float]] = {}
    about: dict[Key, Item] = {}
    for cell in cells:
        for item in cell.answers:
            score = float(item["correct"]) if metric == "accuracy" else item["rouge_l"]
            if score is None or not keep(item):
                continue
            key = (cell.fold, item["set"], item["id"])
            scored.setdefault(key, []).append(score)
            about[key] = item
    return {
        key: Value(
            fsum(scores) / len(scores),
            about[key]["subject"] or about[key]["id"],
            (about[key]["set"], about[key]["task"]),
        )
        for key, scores in scored.items()
    }


def pooled(values: Mapping[Key, Value], metric: Metric = "accuracy", seed: int = 0) -> Pooled | None:
    """Mean and interval; None without questions.

    The interval of shares is the wider of the bootstrap's over people and Wilson's over different questions, as
    everywhere in this package.
    """
    if not values:
        return None
    scores, people = [one.value for one in values.values()], [one.person for one in values.values()]
    mean = fsum(scores) / len(scores)
    low, high = (mean, mean) if metric == "accuracy" else (0.0, 1.0)
    if len(set(people)) > 1:
        interval = cluster_bootstrap(scores, people, seed=seed)
        low, high = interval.low, interval.high
    if metric == "accuracy":
        different = len({(name, question) for _, name, question in values})
        by_item = wilson(round(mean * different), different)
        low, high = min(low, by_item.low), max(high, by_item.high)
    return Pooled(len(scores), len(set(people)), mean, min(low, mean), max(high, mean))


def difference(a: Mapping[Key, Value], b: Mapping[Key, Value], seed: int = 0) -> Pooled | None:
    """Mean of `a` minus mean of `b` over the questions that both have, people drawn in pairs."""
    both = [key for key in a if key in b]
    if not both:
        return None
    people = [a[key].person for key in both]
    pair = paired_difference([a[key].value for key in both], [b[key].value for key in both], people, seed=seed)
    return Pooled(len(both), len(set(people)), pair.mean, pair.low, pair.high)


def balanced(values: Mapping[Key, Value], seed: int = 0) -> Pooled | None:
    """Mean over sets and tasks, each with the same weight; the interval draws people."""
    if not values:
        return None
    groups = sorted({one.cell for one in values.values()})
    people = sorted({one.person for one in values.values()})
    row, column = {p: i for i, p in enumerate(people)}, {g: i for i, g in enumerate(groups)}
    sums, counts = np.zeros((len(people), len(groups))), np.zeros((len(people), len(groups)))
    for one in values.values():
        sums[row[one.person], column[one.cell]] += one.value
        counts[row[one.person], column[one.cell]] += 1
    mean = float((sums.sum(0) / counts.sum(0)).mean())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=DRAWS)
    with np.errstate(invalid="ignore"):
        # a draw may leave a set without people; the mean is then over the other sets
        means = np.nanmean((drawn @ sums) / np.where(drawn @ counts == 0, np.nan, drawn @ counts), axis=1)
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Pooled(len(values), len(people), mean, min(float(low), mean), max(float(high), mean))
