"""The queue: order, back-pressure, deadlines, and its end."""

from __future__ import annotations

import threading
import time

import pytest

from mllmeraser.serving.engine import Busy, EngineClosed, EngineError, Prompt, Sampling, Ticket, TimedOut
from mllmeraser.serving.engine.queue import Queue
from mllmeraser.serving.engine.tickets import Waiting

CLOSED = EngineClosed("nothing is in force")


def request(deadline_s: float = 60.0) -> Waiting:
    now = time.monotonic()
    return Waiting(Ticket(), Prompt("hello"), Sampling(), lambda view: (), now, now + deadline_s)


def opened(limit: int = 8) -> Queue:
    queue = Queue(limit, CLOSED)
    queue.accept()
    return queue


def put(queue: Queue, *requests: Waiting) -> None:
    for one in requests:
        queue.put(one, lambda waiting: 0.5 * waiting)


def test_requests_come_in_order_and_no_more_than_asked_for() -> None:
    queue, asked = opened(), [request() for _ in range(5)]
    put(queue, *asked)
    assert [queue.next(3, 0.0), queue.next(3, 0.0)] == [asked[:3], asked[3:]]


def test_a_command_goes_before_the_requests() -> None:
    queue, one, done = opened(), request(), []
    put(queue, one)
    queue.command(done.append)
    command = queue.next(3, 5.0)
    assert callable(command)
    command(None)
    assert done == [None]
    assert queue.next(3, 0.0) == [one]


def test_the_first_request_waits_for_others_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, (one, two) = opened(), (request(), request())
    put(queue, one)
    timer = threading.Timer(0.05, put, (queue, two))
    timer.start()
    assert queue.next(2, 30.0) == [one, two]
    timer.join()
    put(queue, one)
    waits: list[float | None] = []
    monkeypatch.setattr(queue._changed, "wait_for", lambda _, seconds=None: waits.append(seconds))
    assert queue.next(2, 0.05) == [one]
    assert waits == [None, 0.05]


def test_a_full_queue_says_when_to_come_again() -> None:
    queue = opened(2)
    put(queue, request(), request())
    with pytest.raises(Busy) as caught:
        put(queue, request())
    assert caught.value.retry_after_s == 1.0
    queue.next(1, 0.0)
    put(queue, request())


def test_a_request_that_was_cancelled_leaves_its_place() -> None:
    queue, (one, two, three) = opened(2), (request(), request(), request())
    put(queue, one, two)
    one.ticket.cancel()
    put(queue, three)
    assert queue.next(8, 0.0) == [two, three]


def test_deadlines_pass_while_waiting() -> None:
    queue, late, early = opened(), request(-1.0), request()
    put(queue, late, early)
    queue.expire()
    with pytest.raises(TimedOut):
        late.ticket.result(0)
    assert queue.next(8, 0.0) == [early]


def test_a_closed_queue_takes_nothing_and_lets_nobody_wait() -> None:
    queue, waiting = opened(), request()
    put(queue, waiting)
    queue.refuse(CLOSED)
    with pytest.raises(EngineClosed, match="nothing is in force"):
        waiting.ticket.result(0)
    with pytest.raises(EngineClosed, match="nothing is in force"):
        put(queue, request())
    queue.accept()
    put(queue, request())
    assert len(queue) == 1


def test_an_error_raised_often_does_not_grow() -> None:
    queue, depths = Queue(1, CLOSED), []
    for _ in range(3):
        with pytest.raises(EngineClosed) as caught:
            put(queue, request())
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1
    assert CLOSED.__traceback__ is None


def test_a_drained_queue_hands_out_what_it_has_and_then_ends() -> None:
    queue, one = opened(), request()
    put(queue, one)
    queue.stop(EngineClosed("stopped"), drain=True)
    with pytest.raises(EngineClosed, match="stopped"):
        put(queue, request())
    assert queue.next(8, 5.0) == [one]
    assert queue.next(8, 5.0) is None


def test_a_stopped_queue_fails_what_it_has_and_says_so_to_commands() -> None:
    queue, one = opened(), request()
    told: list[EngineError | None] = []
    put(queue, one)
    queue.command(told.append)
    queue.stop(EngineClosed("stopped"), drain=False)
    queue.command(told.append)
    assert [str(error) for error in told] == ["stopped", "stopped"]
    with pytest.raises(EngineClosed, match="stopped"):
        one.ticket.result(0)
    assert queue.next(8, 5.0) is None
