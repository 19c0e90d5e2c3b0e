"""Attackers that guess from answers which people were deleted, and how well a score separates two groups of people.

The measure is the area under the ROC curve. Answers about one person are alike, so its bootstrap draws people of both
groups. An area below one half separates as well as one above, for an attacker may learn the sign from a known deletion.
So `betrays` is the larger of the area and its complement. With few people it exceeds one half by chance; the interval
of the area shows by how much.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mllmeraser.evaluation.intervals import DRAWS, LEVEL
from mllmeraser.samples import InputError
from mllmeraser.studies.decoding import Certainty

TREES = 200
Floats = NDArray[np.float64]
Learn = Callable[[list[int], list[bool]], Callable[[list[int]], Any]]
"""Rows and labels to learn from -> a function that scores other rows."""


def by_wording(
    answers: Sequence[str], people: Sequence[str], forgotten: Sequence[str], folds: Mapping[str, int]
) -> list[float]:
    """Score each answer by a logistic regression on TF-IDF of words, word pairs and punctuation.

    The classifier is trained on people of the other folds only.
    """
    text, linear = _package("sklearn.feature_extraction.text"), _package("sklearn.linear_model")

    def learn(rows: list[int], labels: list[bool]) -> Callable[[list[int]], Any]:
        vectors = text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", lowercase=False)
        classifier = linear.LogisticRegression(class_weight="balanced", max_iter=1000)
        classifier.fit(vectors.fit_transform([answers[row] for row in rows]), labels)
        return lambda others: classifier.decision_function(vectors.transform([answers[row] for row in others]))

    return _held_out(people, forgotten, folds, learn)


def by_numbers(
    certainties: Sequence[Certainty], forms: Sequence[str], people: Sequence[str], forgotten: Sequence[str],
    folds: Mapping[str, int], *, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Score each answer by a random forest on all log-probabilities and on the form of the question.

    The form is a feature, for answers to a cloze are less certain than answers to a choice.
    """
    ensemble = _package("sklearn.ensemble")
    known = sorted(set(forms))
    rows = zip(certainties, forms, strict=True)
    table = np.array([[*astuple(certainty), *(form == f for f in known)] for certainty, form in rows])

    def learn(rows: list[int], labels: list[bool]) -> Callable[[list[int]], Any]:
        forest = ensemble.RandomForestClassifier(
            TREES, min_samples_leaf=5, class_weight="balanced", random_state=seed, n_jobs=1
        )
        forest.fit(table[rows], labels)
        return lambda others: forest.predict_proba(table[others])[:, 1]

    return _held_out(people, forgotten, folds, learn)


def _held_out(people: Sequence[str], forgotten: Sequence[str], folds: Mapping[str, int], learn: Learn) -> list[float]:
    """The score of every answer by a classifier trained on the people of the other folds."""
    gone, scores = set(forgotten), [0.0] * len(people)
    for fold in sorted(set(folds.values())):
        seen = [row for row, key in enumerate(people) if folds[key] != fold]
        new = [row for row, key in enumerate(people) if folds[key] == fold]
        labels = [people[row] in gone for row in seen]
        if len(set(labels)) < 2:
            raise InputError("an attacker needs both groups of people to learn from: at least two of each")
        for row, score in zip(new, learn(seen, labels)(new), strict=True):
            scores[row] = float(score)
    return scores


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError("this study needs scikit-learn, which is missing: pip install 'mllmeraser[bench]'") from error


@dataclass(frozen=True, slots=True)
class Area:
    """Area under the ROC curve, forgotten people against strangers.

    Attributes:
        auc: Probability that a forgotten answer (or person) scores higher than a stranger's; ties count half. From
            `low` to `high` is its 95 % interval over people.
        betrays: The larger of `auc` and its complement.
    """

    auc: float
    low: float
    high: float
    betrays: float


@dataclass(frozen=True, slots=True)
class Separation:
    """The area over single answers, and over people (the mean score of each)."""

    answer: Area
    person: Area


def separation(
    scores: Sequence[float],
    people: Sequence[str],
    forgotten: Sequence[str],
    *,
    folds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Separation:
    """How well ``scores`` of answers separate the ``forgotten`` people from all others.

    If the scores come from a model trained on other people, ``folds`` is the fold of each person. Scores of different
    folds come from different models and are not compared. It is an InputError if no two people can be compared.
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
    mean = {key: [float(np.mean(own))] for key, own in by_person.items()}
    whole = np.array([[_wins(mean[a], mean[b]) for b in second] for a in first])
    sizes = np.outer([len(by_person[a]) for a in first], [len(by_person[b]) for b in second]).astype(np.float64)
    return Separation(_area(single, comparable * sizes, seed), _area(whole, comparable, seed))


def deal(forgotten: Sequence[str], others: Sequence[str], folds: int) -> dict[str, int]:
    """The fold of each person: both groups are dealt out in turn, so each fold has a share of both."""
    return {key: i % folds for group in (forgotten, others) for i, key in enumerate(group)}


def _wins(high: Sequence[float], low: Sequence[float]) -> float:
    """Share of pairs in which the first is larger; ties count half."""
    ordered = np.sort(np.asarray(low, dtype=np.float64))
    values = np.asarray(high, dtype=np.float64)
    below = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return float(below.mean() / (2 * len(ordered)))


def _area(wins: Floats, weights: Floats, seed: int) -> Area:
    """The weighted mean of ``wins`` (forgotten, others); its interval resamples rows and columns."""
    auc = float((wins * weights).sum() / weights.sum())
    rng = np.random.default_rng(seed)
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64) for n in wins.shape)
    total = np.einsum("dr,rc,dc->d", rows, weights, columns, optimize=True)
    hits = np.einsum("dr,rc,dc->d", rows, wins * weights, columns, optimize=True)
    drawn = hits[total > 0] / total[total > 0]  # a draw may leave no pair to compare
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Area(auc, float(low), float(high), max(auc, 1 - auc))
