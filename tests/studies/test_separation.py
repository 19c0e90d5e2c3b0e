"""Areas under the curve over answers and people, with intervals that draw people: counted by hand."""

from __future__ import annotations

import random

import pytest

from mllmeraser.samples.errors import InputError
from mllmeraser.studies.attackers import deal, separation

FORGOTTEN = ["f1", "f2"]
PEOPLE = ["f1", "f1", "f2", "f2", "s1", "s1", "s2", "s2"]


def test_the_area_counts_pairs_and_ties_half() -> None:
    found = separation([3, 1, 3, 3, 2, 2, 1, 0], PEOPLE, FORGOTTEN)
    # 16 pairs of answers: 3s beat all twelve; the 1 beats only the 0 and ties with the 1
    assert found.answer.auc == pytest.approx((12 + 1.5) / 16) and found.answer.betrays == found.answer.auc
    # means: f1 = 2, f2 = 3 against s1 = 2 and s2 = 0.5
    assert found.person.auc == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_equal_answers_betray_nothing_and_an_area_below_a_half_betrays_as_much() -> None:
    same = separation([1.0] * 8, PEOPLE, FORGOTTEN)
    assert same.answer.auc == same.person.auc == same.answer.low == same.answer.high == same.answer.betrays == 0.5
    below = separation([0, 0, 0, 0, 1, 1, 1, 1], PEOPLE, FORGOTTEN)
    assert below.answer.auc == 0 and below.answer.betrays == 1 and (below.answer.low, below.answer.high) == (0, 0)


def test_the_interval_draws_people_not_answers() -> None:
    rng = random.Random(0)
    people = [f"{kind}{i}" for kind in "fs" for i in range(5) for _ in range(40)]
    own = {person: rng.gauss(0, 1) for person in people}
    scores = [own[person] + rng.gauss(0, 0.01) for person in people]
    found = separation(scores, people, [f"f{i}" for i in range(5)])
    assert found.answer.low <= found.answer.auc <= found.answer.high
    assert found.answer.high - found.answer.low > 0.3  # 400 answers, but ten people
    assert found.answer.low == pytest.approx(separation(scores, people, [f"f{i}" for i in range(5)]).answer.low)


def test_scores_of_different_folds_are_not_compared() -> None:
    folds = {"f1": 0, "s1": 0, "f2": 1, "s2": 1}
    # fold 1 scores all higher: within each fold the stranger wins, across them f2 beats s1
    scores = [1, 1, 11, 11, 2, 2, 12, 12]
    assert separation(scores, PEOPLE, FORGOTTEN, folds=folds).answer.auc == 0
    assert separation(scores, PEOPLE, FORGOTTEN).answer.auc == pytest.approx(1 / 4)


def test_people_with_more_answers_weigh_more_among_answers_alone() -> None:
    people = ["f1", "f1", "f1", "f2", "s1"]
    found = separation([1, 1, 1, 0, 0.5], people, FORGOTTEN)
    assert found.answer.auc == pytest.approx(3 / 4) and found.person.auc == pytest.approx(1 / 2)


@pytest.mark.parametrize("forgotten", [[], ["f1", "f2", "s1", "s2"]])
def test_a_missing_group_is_refused(forgotten: list[str]) -> None:
    with pytest.raises(InputError, match="needs answers"):
        separation([1.0] * 8, PEOPLE, forgotten)


def test_nobody_to_compare_with_is_refused() -> None:
    with pytest.raises(InputError, match="in one fold"):
        separation([1.0] * 8, PEOPLE, FORGOTTEN, folds={"f1": 0, "f2": 0, "s1": 1, "s2": 1})


def test_both_groups_are_dealt_over_all_folds() -> None:
    dealt = deal(["f1", "f2"], ["s1", "s2", "s3"], 2)
    assert dealt == {"f1": 0, "f2": 1, "s1": 0, "s2": 1, "s3": 0}
