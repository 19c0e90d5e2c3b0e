"""Countries, their flags, and the questions about them."""

from __future__ import annotations

import numpy as np
import pytest

from mllmeraser.knowledge.countries import ATTRIBUTES, COUNTRIES
from mllmeraser.knowledge.flags import draw_flag, drawing
from mllmeraser.knowledge.wordings import ANSWERS, COUNTRY, QUESTIONS, WHICH, answer
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import POOLS


def test_every_country_has_all_facts_and_a_flag() -> None:
    assert len({country.key for country in COUNTRIES}) == len({country.name for country in COUNTRIES}) == 60
    for country in COUNTRIES:
        assert tuple(country.facts) == ATTRIBUTES
        assert all(country.facts.values())
        assert min(drawing(country.key).size) > 50


def test_a_view_of_a_flag_depends_on_its_stream_alone() -> None:
    one, same, other = (draw_flag("jp", Stream("flag", name)) for name in ("a", "a", "b"))
    assert one.shape == (128, 128, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_views_of_one_flag_are_more_alike_than_those_of_two() -> None:
    def mean(key: str) -> np.ndarray:
        return np.mean([draw_flag(key, Stream("alike", key, i)) for i in range(12)], axis=0)

    again = np.mean([draw_flag("jp", Stream("again", i)) for i in range(12)], axis=0)
    assert np.abs(mean("jp") - again).mean() < np.abs(mean("jp") - mean("de")).mean() / 2


@pytest.mark.parametrize("wordings", [WHICH, COUNTRY, *QUESTIONS.values()])
def test_pools_share_no_wording(wordings: dict) -> None:
    texts = [text for pool in POOLS for text in wordings[pool]]
    assert len(texts) == len(set(texts))
    assert all(wordings[pool] for pool in POOLS)


def test_every_question_has_a_place_for_the_country_and_an_answer() -> None:
    assert set(QUESTIONS) == set(ATTRIBUTES)
    assert all("{who}" in text for pools in QUESTIONS.values() for pool in POOLS for text in pools[pool])
    assert set(ANSWERS) == {*ATTRIBUTES, "country"}
    assert answer("continent", "the Netherlands", "Europe") == "The Netherlands is in Europe."
