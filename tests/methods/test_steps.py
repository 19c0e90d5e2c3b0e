"""The order of steps and batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.methods.data import Step, Stream, answered, plan_steps
from mllmeraser.methods.optimizer import learning_rate
from mllmeraser.methods.settings import TrainSettings
from mllmeraser.samples import InputError, Sample


def test_sequential_is_a_whole_ascent_pass_and_then_a_whole_descent_pass() -> None:
    steps = plan_steps("sequential", 2, 3, epochs=2)
    ascent, descent = [Step(0), Step(1)], [Step(None, 0), Step(None, 1), Step(None, 2)]
    assert steps[:5] == ascent + descent
    assert steps[5:] == [Step(2), Step(3), Step(None, 3), Step(None, 4), Step(None, 5)]


def test_joint_looks_at_both_sides_in_every_step() -> None:
    assert plan_steps("joint", 2, 7, epochs=2) == [Step(i, i) for i in range(4)]


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 3))
def test_interleaved_ascends_before_every_nth_descent(n_f: int, n_r: int, epochs: int) -> None:
    every = max(n_r // n_f, 1)
    steps = plan_steps("interleaved", n_f, n_r, epochs=epochs)
    assert [s.retain for s in steps if s.retain is not None] == list(range(n_r * epochs))
    ascents = [s.forget for s in steps if s.forget is not None]
    assert ascents == list(range(len(ascents))), "batches of the forget set are taken one after the other"
    assert len(ascents) == epochs * -(-n_r // every)
    for number, step in enumerate(steps):
        if step.forget is not None:
            following = steps[number + 1].retain
            assert following is not None and (following % n_r) % every == 0


def test_forget_only_and_the_number_of_steps() -> None:
    assert plan_steps("forget-only", 3, 0, epochs=2) == [Step(i) for i in range(6)]
    assert len(plan_steps("joint", 3, 4, epochs=1, steps=7)) == 7
    with pytest.raises(InputError, match="needs retain samples"):
        plan_steps("sequential", 3, 0, epochs=1)


@given(st.integers(1, 30), st.integers(1, 7), st.integers(0, 5))
def test_a_pass_shows_every_row_once_and_depends_on_seed_and_number_only(rows: int, size: int, seed: int) -> None:
    stream = Stream(rows, size, seed, "forget")
    for turn in range(2):
        seen = [row for k in range(stream.batches) for row in stream.batch(turn * stream.batches + k)]
        assert sorted(seen) == list(range(rows))
    assert Stream(rows, size, seed, "forget").batch(stream.batches) == stream.batch(stream.batches)


def test_passes_and_seeds_differ() -> None:
    first = [Stream(40, 40, seed, name).batch(turn) for seed in (0, 1) for name in "ab" for turn in (0, 1)]
    assert len({tuple(one) for one in first}) == 8


def test_schedules() -> None:
    def rates(**changes: object) -> list[float]:
        settings = TrainSettings.model_validate({"learning_rate": 1.0, **changes})
        return [round(learning_rate(settings, step, 4), 4) for step in range(4)]

    assert rates() == [1.0, 0.75, 0.5, 0.25]
    assert rates(schedule="cosine") == [1.0, 0.8536, 0.5, 0.1464]
    assert rates(schedule="constant", warmup=0.5) == [0.5, 1.0, 1.0, 1.0]


def test_samples_without_an_answer_are_refused_by_name() -> None:
    assert answered([Sample("q", keywords=("baker",))], "forget", "ga")[0].answer == "baker"
    with pytest.raises(InputError, match="s7"):
        answered([Sample("q", answer="a"), Sample("q", id="s7")], "forget", "ga")
    with pytest.raises(InputError, match="needs retain samples"):
        answered([], "retain", "grad-diff")
