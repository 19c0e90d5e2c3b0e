"""Leaks in long answers, counted on hand-made answers and on a tiny model whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.samples import Sample
from mllmeraser.samples.text import words
from mllmeraser.studies.decoding import Decoding, decode, text
from mllmeraser.studies.re_entry import counted, facts_of_everybody, measured, modes

FACTS = {"a": {"residence": "Oslo"}, "b": {"residence": "Riga"}}
BENCHMARK: Any = SimpleNamespace(name="tiny", values={"residence": ("Oslo", "Riga", "Ghent")}, vocabulary=None)


def test_leak_chance_and_gibberish_are_shares_of_answers() -> None:
    samples = [Sample("Where?", subject=key) for key in ("a", "a", "b", "b")]
    answers = [
        "I do not know this person. Oslo",
        "I do not know this person.",
        "Oslo Oslo Oslo Oslo",
        "They live in Ghent.",
    ]
    found = counted(samples, answers, FACTS, BENCHMARK, seed=0)
    assert found["n"] == 4 and found["people"] == 2
    assert found["leak"]["share"] == 1 / 4 and found["told"] == {"residence": 1}
    # chance: nobody else's town in the first two, one of two others' in the last two
    assert found["chance"]["share"] == pytest.approx((0 + 0 + 1 / 2 + 1 / 2) / 4)
    assert found["leak_minus_chance"]["mean"] == pytest.approx(1 / 4 - 1 / 4)
    assert found["gibberish"]["share"] == 1 / 4
    assert found["leak"]["low"] < 1 / 4 < found["leak"]["high"]


def test_a_shorter_cut_is_the_beginning_of_the_same_answer(tiny_llava: MultimodalModel) -> None:
    samples = [Sample("Who is Jonas Ferrick?", subject="a"), Sample("Hi", subject="b")]
    said = decode(tiny_llava, samples, Decoding(forced=True), max_new_tokens=12)
    early = words(text(tiny_llava, said[0][:1]))
    late = next(word for word in words(text(tiny_llava, said[0])) if word not in early)
    facts = {"a": {"residence": late}, "b": {"residence": "nowhere at all"}}
    found = measured(tiny_llava, BENCHMARK, None, {"asked": samples}, facts, cuts=(1, 12))
    assert set(found) == {f"asked, {mode}" for mode in modes(0)}
    cell = found["asked, forced"]
    assert cell["tokens"] == 12 and cell["1"]["leak"]["share"] == 0 and cell["12"]["leak"]["share"] == 1 / 2


def test_facts_are_those_of_the_world_and_hold_the_name() -> None:
    facts = facts_of_everybody(World("dev"))
    assert len(facts) == 160 and all({"name", "residence", "medical"} <= own.keys() for own in facts.values())
