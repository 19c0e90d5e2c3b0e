"""Attackers who learn on answers about some people whether those about others betray that they were deleted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from mllmeraser.samples.errors import InputError
from mllmeraser.studies.decoding import Certainty

TREES = 200


def by_wording(
    answers: Sequence[str], people: Sequence[str], forgotten: Sequence[str], folds: Mapping[str, int]
) -> list[float]:
    """For each answer the score of a logistic regression on TF-IDF of words, pairs of words and marks.

    It is learnt on people of other folds alone.
    """
    text, linear = _package("sklearn.feature_extraction.text"), _package("sklearn.linear_model")

    def learn(rows: list[int], labels: list[bool]) -> Callable[[list[int]], Any]:
        vectors = text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", lowercase=False)
        learnt = linear.LogisticRegression(class_weight="balanced", max_iter=1000)
        learnt.fit(vectors.fit_transform([answers[row] for row in rows]), labels)
        return lambda others: learnt.decision_function(vectors.transform([answers[row] for row in others]))

    return _held_out(people, forgotten, folds, learn)


def by_numbers(
    sure: Sequence[Certainty], forms: Sequence[str], people: Sequence[str], forgotten: Sequence[str],
    folds: Mapping[str, int], *, seed: int = 0,
) -> list[float]:  # fmt: skip
    """For each answer the score of a random forest on all log-probabilities and on the form of the question.

    The attacker knows what was asked, and strangers' answers to a cloze are not as sure as those to a choice.
    """
    ensemble = _package("sklearn.ensemble")
    known = sorted(set(forms))
    table = np.array([[*astuple(one), *(form == f for f in known)] for one, form in zip(sure, forms, strict=True)])

    def learn(rows: list[int], labels: list[bool]) -> Callable[[list[int]], Any]:
        forest = ensemble.RandomForestClassifier(
            TREES, min_samples_leaf=5, class_weight="balanced", random_state=seed, n_jobs=1
        )
        forest.fit(table[rows], labels)
        return lambda others: forest.predict_proba(table[others])[:, 1]

    return _held_out(people, forgotten, folds, learn)


def _held_out(
    people: Sequence[str],
    forgotten: Sequence[str],
    folds: Mapping[str, int],
    learn: Callable[[list[int], list[bool]], Callable[[list[int]], Any]],
) -> list[float]:
    """Every answer's score by what was learnt on the other folds' people."""
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
