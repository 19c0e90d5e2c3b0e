"""Everybody is asked for everything, by picture and by name, and nothing private is in the prompts."""

from __future__ import annotations

from mllmeraser.portraits.facts import PERSON_VALUES
from mllmeraser.samples import Sample
from mllmeraser.samples.text import contains
from mllmeraser.studies.leaks import EVERYTHING, PICTURED, ask_everything
from tiny import picture


def test_everybody_is_asked_in_every_wording_by_picture_and_by_name() -> None:
    first, second = picture(1), picture(2)
    samples = [Sample("Where?", None, subject="a"), Sample("Where?", first, subject="a"),
               Sample("What?", second, subject="a"), Sample("Where?", second, subject="b")]  # fmt: skip
    asked = ask_everything(samples, {"a": ("Mara Velden", "Mara")})
    assert len(asked) == 3 * len(EVERYTHING) and len({sample.id for sample in asked}) == len(asked)
    own = [sample for sample in asked if sample.subject == "a"]
    assert {s.image is first for s in own if s.image} == {True}
    assert all(("Mara Velden" in s.question) == (s.image is None) for s in own)
    assert all(PICTURED in s.question for s in asked if s.subject == "b")
    assert "{who}" not in "".join(sample.question for sample in asked)


def test_no_wording_holds_a_value() -> None:
    values = [value for group in PERSON_VALUES.values() for value in group]
    assert not [(w, value) for w in EVERYTHING for value in values if contains(w, value)]
