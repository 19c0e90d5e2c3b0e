"""Pooling over folds, seeds and people."""

from __future__ import annotations

import pytest

from conftest import item, made_up_cell
from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.pooling import balanced, difference, pooled, values_of


def cell(fold: int, seed: int, right: dict[int, list[bool]], name: str = "forget") -> Cell:
    """Person -> whether each question about them was answered."""
    items = [
        dict(item(name, person, "cloze", "image", number, correct, "unknown"))
        for person, answers in right.items()
        for number, correct in enumerate(answers)
    ]
    return made_up_cell("vanilla", "forget_5", fold, seed, items=items)


def test_seeds_count_once_and_folds_apart() -> None:
    cells = [cell(0, 0, {1: [True, False]}), cell(0, 1, {1: [True, True]}), cell(1, 0, {2: [False, False]})]
    values = values_of(cells)
    assert sorted(value.value for value in values.values()) == [0.0, 0.0, 0.5, 1.0]
    found = pooled(values)
    assert found is not None and (found.n, found.people, found.mean) == (4, 2, pytest.approx(0.375))
    assert pooled({}) is None


def test_one_persons_questions_are_not_independent() -> None:
    """Forty questions about two people, one known and one not, say as little as two questions."""
    found = pooled(values_of([cell(0, 0, {1: [True] * 20, 2: [False] * 20})]))
    assert found is not None and (found.low, found.high) == (0.0, 1.0)
    many = pooled(values_of([cell(0, 0, {p: [p % 2 == 0] for p in range(40)})]))
    assert many is not None and 0.3 < many.low < 0.5 < many.high < 0.7


def test_a_person_in_two_folds_is_one_person() -> None:
    one = pooled(values_of([cell(0, 0, {p: [p % 2 == 0] for p in range(20)})]))
    folds = [cell(fold, 0, {p: [p % 2 == 0] for p in range(20)}) for fold in range(5)]
    five = pooled(values_of(folds))
    assert one is not None and five is not None and five.n == 5 * one.n and five.people == one.people
    assert (five.low, five.high) == (one.low, one.high), "the same people again are no news"


def test_nobody_recalled_is_not_certainty() -> None:
    found = pooled(values_of([cell(0, 0, {p: [False] for p in range(10)})]))
    assert found is not None and found.low == found.mean == 0.0 and 0.2 < found.high < 0.35


def test_rouge_has_its_own_interval() -> None:
    found = pooled(values_of([cell(0, 0, {p: [p % 2 == 0] for p in range(40)})], "rouge_l"), "rouge_l")
    assert found is not None and found.mean == pytest.approx(0.75) and 0.65 < found.low < found.high < 0.85


def test_differences_are_paired() -> None:
    bare = cell(0, 0, {p: [p % 2 == 0] * 2 for p in range(20)})
    worse = [cell(0, seed, {p: [p % 2 == 0 and p < 10] * 2 for p in range(20)}) for seed in (0, 1)]
    same = difference(values_of([bare]), values_of([bare]))
    assert same is not None and (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    found = difference(values_of(worse), values_of([bare]))
    assert found is not None and found.mean == pytest.approx(-0.25) and found.low < -0.25 < found.high < 0
    elsewhere = cell(1, 0, {p: [True] for p in range(3)})
    assert difference(values_of([elsewhere]), values_of([bare])) is None


def test_sets_and_tasks_count_alike() -> None:
    large, small = cell(0, 0, {p: [True] * 9 for p in range(10)}, "retain"), cell(0, 0, {50: [False]}, "celebrity")
    found = balanced(values_of([large, small]))
    assert found is not None and found.mean == pytest.approx(0.5) and found.low <= 0.5 <= found.high
    assert balanced({}) is None
