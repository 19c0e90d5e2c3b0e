"""Deadlines, cancelled requests, a full queue, faults, and the end: nobody waits for ever, nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from engine_kit import FULL, SOON, Clock, Steps, ask, running
from server_kit import wait_for
from steering_kit import ALWAYS, count_hooks, make_plan

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.serving.engine import (
    BatchReport,
    Busy,
    Engine,
    EngineClosed,
    EngineError,
    EngineSettings,
    Ticket,
    TimedOut,
)

LONG = 400


class Gatekeeper:
    """A choice that holds the engine's thread until it is let go."""

    def __init__(self) -> None:
        self.held, self.go = threading.Event(), threading.Event()

    def __call__(self, view: Any) -> set[str]:
        self.held.set()
        assert self.go.wait(SOON)
        return set()


def first_piece(ticket: Ticket) -> None:
    async def wait() -> None:
        async for piece in ticket.pieces():
            if piece.text:
                return

    asyncio.run(asyncio.wait_for(wait(), SOON))


def test_a_deadline_passes_in_the_queue_while_others_are_answered(
    tiny_llava: MultimodalModel, samples: list[Sample]
) -> None:
    with running(tiny_llava, max_batch=1) as engine, Steps(tiny_llava) as steps:
        long = ask(engine, tiny_llava, samples[3])
        assert steps.reached.wait(SOON)
        late = ask(engine, tiny_llava, samples[3], deadline_s=0.0)
        steps.let(2)
        with pytest.raises(TimedOut, match="waiting"):
            late.result(SOON)
        assert not long.done, "it did not have to wait for the batch before it"


def test_a_deadline_passes_before_the_batch_begins(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    gate = Gatekeeper()
    with running(tiny_llava, max_batch=1) as engine:
        ask(engine, tiny_llava, samples[3], choose=gate)
        assert gate.held.wait(SOON)
        late = ask(engine, tiny_llava, samples[3], deadline_s=0.0, choose=lambda view: pytest.fail("never asked"))
        gate.go.set()
        with pytest.raises(TimedOut):
            late.result(SOON)
        assert late.version is None


def test_a_deadline_passes_while_the_answer_is_made(
    tiny_llava: MultimodalModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with running(tiny_llava, max_batch=2, max_wait_s=FULL) as engine:
        with Steps(tiny_llava) as steps:
            late = ask(engine, tiny_llava, samples[3])
            other = ask(engine, tiny_llava, samples[1], max_tokens=20, deadline_s=10 * SOON)
            assert steps.reached.wait(SOON)
            clock.ahead = 2 * SOON
        with pytest.raises(TimedOut, match="complete"):
            late.result(SOON)
        assert other.result(SOON).tokens == 20


def test_cancel_ends_a_row_and_no_other(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    with running(tiny_llava, max_batch=2, max_wait_s=FULL) as engine:
        with Steps(tiny_llava) as steps:
            gone = ask(engine, tiny_llava, samples[3], max_tokens=LONG)
            other = ask(engine, tiny_llava, samples[1], max_tokens=30)
            steps.let(9)
            first_piece(gone)
            gone.cancel()
        result = gone.result(SOON)
        assert result.finish == "cancelled"
        assert 0 < result.tokens < LONG
        assert other.result(SOON).tokens == 30


def test_a_full_queue_sends_away(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    gate = Gatekeeper()
    with running(tiny_llava, max_batch=1, max_queue=2) as engine:
        first = ask(engine, tiny_llava, samples[3], choose=gate)
        assert gate.held.wait(SOON)
        waiting = [ask(engine, tiny_llava, samples[3]) for _ in range(2)]
        assert engine.status().queued == 2
        with pytest.raises(Busy) as caught:
            ask(engine, tiny_llava, samples[3])
        assert caught.value.retry_after_s >= 0.1
        waiting[0].cancel()
        waiting.append(ask(engine, tiny_llava, samples[3]))
        gate.go.set()
        assert [ticket.result(SOON).finish for ticket in (first, *waiting)] == ["length", "cancelled"] + ["length"] * 2


def test_stopping_finishes_what_came(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    engine = Engine(tiny_llava, EngineSettings(max_batch=1))
    engine.start()
    engine.apply(1, {"a": make_plan(tiny_llava, threshold=ALWAYS)}).result(SOON)
    gate = Gatekeeper()
    tickets = [ask(engine, tiny_llava, samples[3], choose=gate), *(ask(engine, tiny_llava, s) for s in samples)]
    assert gate.held.wait(SOON)
    stopped = threading.Thread(target=engine.stop, kwargs={"timeout_s": SOON})
    stopped.start()
    wait_for(lambda: engine._queue._stopped)
    with pytest.raises(EngineClosed, match="stopped"):
        ask(engine, tiny_llava, samples[3])
    gate.go.set()
    assert {ticket.result(SOON).tokens for ticket in tickets} == {12}
    stopped.join(SOON)
    assert count_hooks(tiny_llava.hf) == 0
    with pytest.raises(EngineClosed, match="stopped"):
        engine.apply(2, {}).result(SOON)
    with pytest.raises(EngineError, match="started before"):
        engine.start()


def stopped_amid_an_answer(engine: Engine, model: MultimodalModel, sample: Sample, **how: Any) -> list[Ticket]:
    """Stop an engine that is answering one of three requests; the three."""
    with ThreadPoolExecutor(1) as pool:
        with Steps(model) as steps:
            tickets = [ask(engine, model, sample, max_tokens=LONG) for _ in range(3)]
            assert steps.reached.wait(SOON)
            ended = pool.submit(engine.stop, **how)
            wait_for(engine._abort.is_set)
        assert ended.result(SOON)
    return tickets


def test_stopping_at_once_fails_what_came(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    engine = Engine(tiny_llava, EngineSettings(max_batch=1))
    engine.start()
    engine.apply(1, {}).result(SOON)
    tickets = stopped_amid_an_answer(engine, tiny_llava, samples[3], drain=False, timeout_s=SOON)
    for ticket in tickets:
        with pytest.raises(EngineClosed, match="stopped"):
            ticket.result(0)


def test_draining_has_an_end(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    engine = Engine(tiny_llava, EngineSettings(max_batch=1))
    engine.start()
    engine.apply(1, {}).result(SOON)
    tickets = stopped_amid_an_answer(engine, tiny_llava, samples[3], drain=True, timeout_s=0.01)
    for ticket in tickets:
        with pytest.raises(EngineClosed):
            ticket.result(0)


def test_an_engine_that_never_started_stops(tiny_llava: MultimodalModel) -> None:
    engine = Engine(tiny_llava)
    future = engine.apply(1, {})
    assert engine.stop()
    with pytest.raises(EngineClosed):
        future.result(0)


def fail_once(model: MultimodalModel, error: Exception, when: Callable[[int], bool]) -> Callable[[], None]:
    """Have the next forward pass whose number of rows is as `when` says raise; gives what undoes it."""

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        if when(kwargs["input_ids"].shape[0]):
            raise error

    return model.hf.register_forward_pre_hook(hook, with_kwargs=True).remove


def test_a_fault_fails_its_batch_and_the_engine_goes_on(
    tiny_llava: MultimodalModel, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    with running(tiny_llava, {"a": make_plan(tiny_llava, threshold=ALWAYS)}, max_batch=2) as engine:
        remove = fail_once(tiny_llava, RuntimeError("matrix <secret>"), lambda rows: rows == 1)
        ticket = ask(engine, tiny_llava, samples[3])
        with pytest.raises(EngineError, match=r"could not be made \(RuntimeError\)$"):
            ticket.result(SOON)
        remove()
        assert ask(engine, tiny_llava, samples[3]).result(SOON).tokens == 12
        assert "a batch failed" in caplog.text
        assert samples[3].question not in caplog.text


def test_a_fault_that_lasts_closes_the_engine(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    with running(tiny_llava, {"a": make_plan(tiny_llava, threshold=ALWAYS)}) as engine:
        remove = fail_once(tiny_llava, RuntimeError("device lost"), lambda rows: True)
        with pytest.raises(EngineError, match="could not be made"):
            ask(engine, tiny_llava, samples[3]).result(SOON)
        with pytest.raises(EngineError):  # the probe that follows fails too
            ask(engine, tiny_llava, samples[3]).result(SOON)
        assert "device lost" in str(engine.status().closed)
        remove()


def test_a_batch_too_large_for_the_memory_is_answered_in_halves(
    tiny_llava: MultimodalModel, samples: list[Sample]
) -> None:
    seen: list[BatchReport] = []
    erasers = {"a": make_plan(tiny_llava, threshold=ALWAYS)}
    names = [("a",) if n % 2 else () for n in range(7)]
    with running(tiny_llava, erasers, max_batch=7, max_wait_s=FULL, observe=seen.append) as engine:
        whole = [ask(engine, tiny_llava, *pair) for pair in zip(samples, names, strict=True)]
        expected = [ticket.result(SOON).text for ticket in whole]
        remove = fail_once(tiny_llava, torch.cuda.OutOfMemoryError("no memory"), lambda rows: rows > 3)
        parts = [ask(engine, tiny_llava, *pair) for pair in zip(samples, names, strict=True)]
        assert [ticket.result(SOON).text for ticket in parts] == expected
        remove()
    assert [report.fired for report in seen] == [{"a": 3}, {"a": 3}]
    assert [report.ends for report in seen] == [{"length": 7}] * 2


def test_logits_that_are_no_numbers_fail_their_row_alone(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    def spoil(module: Any, args: Any, output: Any) -> None:
        if output.logits.shape[0] == 2:
            output.logits[0, -1, 5] = torch.nan

    with running(tiny_llava, max_batch=2, max_wait_s=FULL) as engine:
        hook = tiny_llava.hf.register_forward_hook(spoil)
        lost, kept = (ask(engine, tiny_llava, sample, temperature=1.0, logprobs=1, seed=0) for sample in samples[:2])
        with pytest.raises(EngineError, match="not finite"):
            lost.result(SOON)
        assert kept.result(SOON).tokens == 12
        hook.remove()


def test_an_observer_that_fails_hurts_nobody(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    def observe(report: BatchReport) -> None:
        raise RuntimeError("no metrics")

    with running(tiny_llava, observe=observe) as engine:
        for _ in range(2):
            assert ask(engine, tiny_llava, samples[3]).result(SOON).tokens == 12


def test_many_threads_at_once_all_get_their_own_answer(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    expected = [tiny_llava.generate_batch([sample], max_new_tokens=6)[0] for sample in samples]
    found: dict[int, str] = {}
    with running(tiny_llava, max_batch=5, max_queue=64) as engine:

        def work(number: int) -> None:
            ticket = ask(engine, tiny_llava, samples[number % 7], max_tokens=6)
            found[number] = ticket.result(SOON).text.strip()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(28)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert [found[number] for number in range(28)] == expected * 4


def test_nothing_is_kept_of_a_request(tiny_llava: MultimodalModel) -> None:
    from tiny import picture

    with running(tiny_llava, {"a": make_plan(tiny_llava, threshold=ALWAYS)}) as engine:
        kept = []
        for number in range(3):
            sample = Sample("Who is this?", picture(50 + number))
            ticket = ask(engine, tiny_llava, sample, ("a",))
            ticket.result(SOON)
            assert ticket.gates is not None
            kept += [weakref.ref(ticket), weakref.ref(sample.image)]
            del ticket, sample
        wait_for(lambda: gc.collect() is not None and not any(one() for one in kept))
        engine.apply(2, {}).result(SOON)


def test_answers_do_not_add_up_in_memory(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    erasers = {"a": make_plan(tiny_llava, threshold=ALWAYS)}
    with running(tiny_llava, erasers, max_batch=4) as engine:
        counts = []
        for _ in range(3):
            tickets = [ask(engine, tiny_llava, sample, ("a",), max_tokens=4, logprobs=2) for sample in samples]
            for ticket in tickets:
                ticket.result(SOON)
            engine.apply(1, erasers).result(SOON)
            del tickets, ticket
            counts.append(tensors())
    assert counts[2] <= counts[1] <= counts[0] + 5


def test_sizes_that_cannot_work_are_refused() -> None:
    for settings in ({"max_batch": 0}, {"max_queue": 0}, {"max_tokens": 0}, {"max_wait_s": -1.0}):
        with pytest.raises(InputError, match="at least 1"):
            EngineSettings(**settings)
