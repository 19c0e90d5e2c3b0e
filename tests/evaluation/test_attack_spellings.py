"""The ways to write a name: each question is asked in each, and a slip is one letter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.evaluation.attacks.spellings import SPELLINGS, prompts, slip
from mllmeraser.portraits.stream import Stream


@given(st.text("abdegilmnoruvz", min_size=2, max_size=9), st.integers())
def test_a_slip_is_one_letter_after_the_first(word: str, seed: int) -> None:
    found = slip(word, Stream(seed))
    assert len(found) == len(word) and sum(a != b for a, b in zip(found, word, strict=True)) == 1
    assert found[0] == word[0]


def test_every_question_in_every_spelling() -> None:
    benchmark = load_benchmark(BENCHMARK)
    asked = prompts(benchmark, "forget_5", 0, 10, 0)
    assert asked == prompts(benchmark, "forget_5", 0, 10, 0), "the same each time"
    gone = set(benchmark.forget_ids("forget_5", 0))
    for forgotten in (True, False):
        rows = [one for one in asked if one.forgotten == forgotten]
        assert len(rows) == len(SPELLINGS) * len({one.sample.id for one in rows}) > 0
        assert all((one.sample.subject in gone) == forgotten for one in rows)
    for one in asked:
        (turn,) = one.conversation.turns
        full = benchmark.names[one.sample.subject or ""][0]
        assert (full in turn.text) == (one.kind == "as it is")
