"""Contexts: halves that share no text, conversations that ask what they should, and counts of leaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.evaluation.attacks.asked import Asked, compared
from mllmeraser.evaluation.attacks.in_context import AFTER, prompts
from mllmeraser.portraits import contexts
from mllmeraser.portraits.contexts import begun
from mllmeraser.samples import Sample
from mllmeraser.samples.conversation import question

FACT = Sample("Where does Vera Lund live?", answer="They live in Rome.", keywords=("Rome",), subject="001", id="a")


def test_halves_share_no_text() -> None:
    pools = [*contexts.SYSTEM.values(), *(value for name, value in vars(contexts).items() if name.isupper())]
    halves = [pool for pool in pools if isinstance(pool, dict) and set(pool) == {"validation", "test"}]
    assert len(halves) >= 12
    assert all(not set(pool["validation"]) & set(pool["test"]) for pool in halves)


@pytest.mark.parametrize(("words", "said"), [(1, "They"), (3, "They live in"), (4, None), (9, None)])
def test_a_begun_answer_holds_no_fact(words: int, said: str | None) -> None:
    found = begun(FACT, words)
    assert (None if found is None else found.begun) == said


def test_every_question_stands_in_every_context() -> None:
    asked = prompts(load_benchmark(BENCHMARK), "forget_5", 0, "test", 3, 0)
    kinds = {(one.forgotten, one.kind) for one in asked}
    for by_name, side in ((True, "by name"), (False, "by picture")):
        assert {kind for kind in contexts.contexts(by_name)} <= {k.removesuffix(f", {side}") for _, k in kinds}
        after = [one for one in asked if one.kind == f"{AFTER}, {side}"]
        assert after and not any(one.forgotten for one in after)
        assert all(len(one.conversation.turns) == 3 for one in after)
    assert all(one.conversation.turns[-1].role == "user" for one in asked)
    assert asked == prompts(load_benchmark(BENCHMARK), "forget_5", 0, "test", 3, 0), "the same each time"


def test_only_what_the_bare_model_knows_counts() -> None:
    asked = [Asked("k", True, replace(FACT, id=str(i)), question(FACT.question)) for i in range(3)]
    entry = compared(asked, ["In Rome.", "In Rome.", "In Oslo."], ["In Rome.", "Unknown.", "In Rome."])["forgotten, k"]
    assert (entry["n"], entry["known"], entry["left"], entry["share"]) == (3, 2, 1, 0.5)
    assert entry["leaked"] == ["0"] and entry["low"] < 0.5 < entry["high"]
