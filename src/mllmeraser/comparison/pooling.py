"""Cells of one row pooled over folds, seeds and modalities, with intervals over people.

Seeds ask the same questions again: each question counts once, with its mean over seeds. A person may be asked about
in several folds (retained in most): the bootstrap draws people, with all that was asked about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

import numpy as np

from mllmeraser.comparison.cells import Cell
from mllmeraser.evaluation.intervals import LEVEL, cluster_bootstrap, paired_difference, wilson
from mllmeraser.evaluation.records import Item

Metric = Literal["accuracy", "rouge_l"]
Key = tuple[int, str, str]
"""Fold, set and id of a question."""
DRAWS = 2000


@dataclass(frozen=True)
class Value:
    """What a row scored on one question.

    Attributes:
        value: Mean over seeds.
        person: Whom it is about, or the question itself.
        cell: Set and task.
    """

    value: float
    person: str
    cell: tuple[str, str]


@dataclass(frozen=True)
class Pooled:
    """A pooled mean.

    Attributes:
        n: Questions, those of different folds apart.
        people: Different people among them.
        mean: Between 0 and 1.
        low: Lower end of its 95 % interval.
        high: Its upper end.
    """

    n: int
    people: int
    mean: float
    low: float
    high: float


def values_of(
    cells: Sequence[Cell], metric: Metric = "accuracy", keep: Callable[[Item], bool] = lambda item: True
) -> dict[Key, Value]:
    """Questions of the cells of one row, and what it scored on each."""
    found: dict[Key, list[float]] = {}
    about: dict[Key, Item] = {}
    for cell in cells:
        for item in cell.answers:
            score = float(item["correct"]) if metric == "accuracy" else item["rouge_l"]
            if score is None or not keep(item):
                continue
            key = (cell.fold, item["set"], item["id"])
            found.setdefault(key, []).append(score)
            about[key] = item
    return {
        key: Value(
            fsum(scores) / len(scores),
            about[key]["subject"] or about[key]["id"],
            (about[key]["set"], about[key]["task"]),
        )
        for key, scores in found.items()
    }


def pooled(values: Mapping[Key, Value], metric: Metric = "accuracy", seed: int = 0) -> Pooled | None:
    """Mean and interval; None where nothing was asked.

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
    """Mean of `a` minus mean of `b` over the questions that both were asked, people drawn in pairs."""
    both = [key for key in a if key in b]
    if not both:
        return None
    people = [a[key].person for key in both]
    found = paired_difference([a[key].value for key in both], [b[key].value for key in both], people, seed=seed)
    return Pooled(len(both), len(set(people)), found.mean, found.low, found.high)


def balanced(values: Mapping[Key, Value], seed: int = 0) -> Pooled | None:
    """Mean over sets and tasks, each counting alike whatever its size; the interval draws people."""
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
        # A draw may leave a set without anybody; the mean is then over the others.
        means = np.nanmean((drawn @ sums) / np.where(drawn @ counts == 0, np.nan, drawn @ counts), axis=1)
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Pooled(len(values), len(people), mean, min(float(low), mean), max(float(high), mean))
