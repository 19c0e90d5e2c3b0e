"""Published percentages against the protocols that are said to have made them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllmeraser.evaluation import matching_count, scored_items
from mllmeraser.samples import InputError


@pytest.mark.parametrize(
    ("printed", "n", "count"),
    [
        ("56.80", 125, 71),  # MIP-Editor, 5 %, forget VQA
        ("4.80", 125, 6),
        ("38.78", 245, 95),  # Open-MMUnlearning, 10 %: one person of 50 shown
        ("13.54", 96, 13),  # and two in cloze
        ("8.04", 896, 72),
        ("36.74", 2240, 823),
        ("11.6", 250, 29),  # not 125: the 10 % split
        ("11.6", 125, None),
        ("41.9", 125, None),  # VL-Eraser: averaged, or another protocol
        ("39.4", 125, None),
        ("38.78", 250, None),  # the zero-shot denominator of the same split
        ("0", 7, 0),
        ("100.0 %", 7, 7),
        ("99.9", 7, None),
        ("14", 7, 1),
        ("33.3", 3, 1),
        ("33.4", 3, None),
        ("12.5", 8, 1),
    ],
)
def test_published_figures(printed: str, n: int, count: int | None) -> None:
    assert matching_count(printed, n) == count


def test_halves_may_be_rounded_either_way() -> None:
    assert matching_count("12", 8) == matching_count("13", 8) == 1  # 12.5
    assert matching_count("3.12", 32) == matching_count("3.13", 32) == 1  # 3.125


@given(st.integers(1, 900).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=100, deadline=None)
def test_every_real_share_passes(case: tuple[int, int]) -> None:
    count, n = case
    assert matching_count(f"{100 * count / n:.2f}", n) == count


@pytest.mark.parametrize("printed", ["", "many", "-1", "100.5", "1/3", "1e1", "nan"])
def test_what_is_no_percentage(printed: str) -> None:
    with pytest.raises(InputError, match="percentage"):
        matching_count(printed, 10)
    with pytest.raises(InputError, match="0 items"):
        matching_count("50", 0)


def test_denominators_of_the_protocols() -> None:
    def items(protocol: str, name: str, task: str, people: int, per: int, family: str = "llava") -> int:
        return scored_items(protocol, name, task, people=people, per_person=per, family=family)  # type: ignore[arg-type]

    assert items("official-zero-shot", "forget", "classification", 25, 5) == 125
    assert items("official", "forget", "classification", 50, 5) == 245
    assert items("official", "forget", "cloze", 50, 2) == 96
    assert items("official", "forget", "cloze", 50, 2, "qwen2.5-vl") == 98
    assert items("official", "retain", "cloze", 450, 2) == 896
    assert items("official", "forget", "generation", 50, 2) == 100
    assert items("official", "celebrity", "cloze", 153, 2) == 306
    assert items("strict", "forget", "cloze", 50, 2) == 100
    with pytest.raises(InputError, match="nothing to count"):
        items("official", "forget", "cloze", 2, 2)
    with pytest.raises(InputError, match="unknown protocol"):
        items("best", "forget", "cloze", 2, 2)
    assert [n for n in (125, 245, 250) if matching_count("38.78", n)] == [245]
