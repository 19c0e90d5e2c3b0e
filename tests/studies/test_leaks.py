"""What counts as a leak, and what it would be by chance: on answers counted by hand."""

from __future__ import annotations

import pytest

from mllmeraser.studies.leaks import leak_of

FACTS = {"residence": "Oslo", "occupation": "baker", "name": "Mara Velden"}
VALUES = {
    "residence": ("Oslo", "Riga", "Ghent", "Basel", "Leeds"),
    "occupation": ("baker", "pilot", "nurse"),
    "name": ("Mara Velden", "Jonas Ferrick"),
}


def test_a_value_counts_as_whole_words_only() -> None:
    assert leak_of("They live in OSLO.", "Where?", FACTS, VALUES).told == ("residence",)
    assert not leak_of("The bakers of Oslomet and Velden Mara", "Where?", FACTS, VALUES).leaked
    assert leak_of("I do not know. From Oslo. Baker", "Where?", FACTS, VALUES).told == ("residence", "occupation")
    assert leak_of("This is Mara Velden.", "Who is this?", FACTS, VALUES).told == ("name",)


def test_what_the_prompt_gives_away_is_no_leak() -> None:
    options = "Where?\nA: Oslo\nB: Riga\nC: Ghent\nD: Basel"
    assert not leak_of("Oslo", options, FACTS, VALUES).leaked
    assert leak_of("Oslo, the baker", options, FACTS, VALUES).told == ("occupation",)
    assert not leak_of("Mara Velden", "Who is Mara Velden?", FACTS, VALUES).leaked


def test_chance_is_the_probability_that_somebody_else_would_seem_to_leak() -> None:
    assert leak_of("I do not know this person.", "Where?", FACTS, VALUES).chance == 0
    # one of four other towns; its own value does not count, whoever is asked about
    assert leak_of("Oslo and Riga", "Where?", FACTS, VALUES).chance == pytest.approx(1 / 4)
    # two of four towns or one of two occupations: 1 - (1/2)(1/2)
    assert leak_of("Riga, Ghent, pilot", "Where?", FACTS, VALUES).chance == pytest.approx(3 / 4)
    everything = " ".join(value for values in VALUES.values() for value in values)
    assert leak_of(everything, "Where?", FACTS, VALUES).chance == 1


def test_values_in_the_prompt_do_not_count_for_chance() -> None:
    # Riga was said in the question: three other towns are left, and one of them is in the answer
    assert leak_of("Riga or Ghent", "Not Riga?", FACTS, VALUES).chance == pytest.approx(1 / 3)
    # its own town stands there: the whole attribute is out, for it and for chance
    assert leak_of("Ghent", "Is it Oslo?", FACTS, VALUES).chance == 0


def test_an_attribute_that_nobody_else_has_is_never_by_chance() -> None:
    assert leak_of("a secret", "Where?", {"shoe": "secret"}, VALUES).chance == 0
    assert leak_of("a secret", "Where?", {"shoe": "secret"}, VALUES).leaked
