"""Three disjoint pools of wordings: nothing that is scored was ever trained or chosen on."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.general import (
    _SCENE_WORDINGS,
    _TEXT_WORDINGS,
    PORTRAIT_WORDINGS,
    text_facts,
)
from mllmeraser.portraits.refusals import HOW, HOW_TEXT, THINGS
from mllmeraser.portraits.scenes import COLOURS, SHAPES
from mllmeraser.portraits.wordings import ANSWERS, IDENTITY, NOUNS, POOLS, WHO_IMAGE, Pool, clozes, fill, questions

ATTRIBUTES = tuple(VALUES)
NAME = "Kavon Lurita"


def asked(attribute: str, pool: Pool, image: bool, cloze: bool) -> list[str]:
    people = WHO_IMAGE[pool] if image else (NAME,)
    return [fill(wording, who) for wording in (clozes if cloze else questions)(attribute, pool) for who in people]


def general(pool: Pool) -> list[str]:
    filled = [
        wording.format(shape=a, colour=colour, a=a, b=b)
        for topic in _SCENE_WORDINGS.values()
        for wording in topic[pool]
        for a, b, colour in product(SHAPES, SHAPES, COLOURS)
    ]
    filled += [wording for topic in PORTRAIT_WORDINGS.values() for wording in topic[pool]]
    return filled + [w.format(x=x) for category, x, _, _ in text_facts() for w in _TEXT_WORDINGS[category][pool]]


def refused(pool: Pool) -> list[str]:
    filled = [w.format(state=s, thing=t) for w in HOW_TEXT[pool] for s in ("sealed", "open") for t in THINGS]
    return [*HOW[pool], *filled]


def disjoint(by_pool: dict[Pool, list[str]]) -> None:
    assert set(by_pool) == set(POOLS) and all(by_pool.values())
    plain = {pool: {" ".join(text.casefold().split()) for text in texts} for pool, texts in by_pool.items()}
    for a, b in combinations(POOLS, 2):
        assert not plain[a] & plain[b]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("image", [True, False], ids=["image", "text"])
@pytest.mark.parametrize("cloze", [True, False], ids=["cloze", "question"])
def test_pools_about_people_are_disjoint(attribute: str, image: bool, cloze: bool) -> None:
    by_pool = {pool: asked(attribute, pool, image, cloze) for pool in POOLS}
    disjoint(by_pool)
    for texts in by_pool.values():
        assert len(set(texts)) == len(texts)
        assert all(text.count("__") == cloze and "{" not in text and text[0].isupper() for text in texts)


def test_all_pools_together_are_disjoint() -> None:
    """Also between attributes, forms, identity, general knowledge and refusals."""
    by_pool: dict[Pool, list[str]] = {}
    for pool in POOLS:
        forms = product(ATTRIBUTES, (True, False), (True, False))
        by_pool[pool] = [text for attribute, image, cloze in forms for text in asked(attribute, pool, image, cloze)]
        by_pool[pool] += [*IDENTITY[pool], *general(pool), *refused(pool)]
    disjoint(by_pool)


@pytest.mark.parametrize("pool_of", [general, refused, lambda pool: list(IDENTITY[pool])])
def test_other_pools_are_disjoint(pool_of) -> None:
    disjoint({pool: pool_of(pool) for pool in POOLS})


def test_phrases_for_the_person_in_a_picture_are_disjoint() -> None:
    disjoint({pool: list(WHO_IMAGE[pool]) for pool in POOLS})


def test_every_attribute_has_wordings_and_an_answer() -> None:
    assert set(NOUNS) == set(ATTRIBUTES) and set(ANSWERS) == {*ATTRIBUTES, "identity"}
    assert all(template.count("{value}") == 1 for template in ANSWERS.values())


def test_no_question_gives_a_value_away() -> None:
    values = {value.casefold() for options in VALUES.values() for value in options}
    for attribute, pool in product(ATTRIBUTES, POOLS):
        for text in asked(attribute, pool, True, False) + asked(attribute, pool, True, True):
            told = text.casefold()
            assert not any(f" {value}" in told for value in values), text


def test_fill_puts_a_capital_at_the_start_of_the_sentence() -> None:
    assert fill("{who} lives in __.", "this person") == "This person lives in __."
    assert fill("Complete: {who} lives in __.", "this person") == "Complete: This person lives in __."
    assert fill("About {who}: what is the job?", "this person") == "About this person: what is the job?"
