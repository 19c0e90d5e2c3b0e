"""The handle of an answer: for threads, for event loops, for several at once."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from mllmeraser.serving.engine import EngineError, Piece, Ticket


def speak(ticket: Ticket, *texts: str, pause: float = 0.0) -> None:
    for text in texts:
        time.sleep(pause)
        ticket.push(Piece(text, None, None, 1))
    ticket.push(Piece("", None, "stop", 0))


async def read(ticket: Ticket) -> list[str]:
    return [piece.text async for piece in ticket.pieces()]


def test_pieces_reach_an_event_loop_from_a_thread() -> None:
    async def scene() -> tuple[list[str], list[str]]:
        ticket = Ticket()
        threading.Thread(target=speak, args=(ticket, "a", "b", "c"), kwargs={"pause": 0.01}).start()
        both = await asyncio.wait_for(asyncio.gather(read(ticket), read(ticket)), 20)
        return both[0], both[1]

    assert asyncio.run(scene()) == (["a", "b", "c", ""], ["a", "b", "c", ""])


def test_pieces_that_came_before_are_read_too() -> None:
    ticket = Ticket()
    speak(ticket, "a", "b")
    assert asyncio.run(read(ticket)) == ["a", "b", ""]
    whole = ticket.result(0)
    assert (whole.text, whole.tokens, whole.finish, whole.token_logprobs) == ("ab", 2, "stop", None)


def test_a_thread_waits_for_the_end() -> None:
    ticket = Ticket()
    threading.Thread(target=speak, args=(ticket, "a"), kwargs={"pause": 0.02}).start()
    assert ticket.result(20).text == "a"
    with pytest.raises(TimeoutError, match="no answer after"):
        Ticket().result(0.01)


def test_an_error_comes_after_the_pieces() -> None:
    async def scene(ticket: Ticket) -> list[str]:
        seen = []
        with pytest.raises(EngineError, match="broken"):
            async for piece in ticket.pieces():
                seen.append(piece.text)
        return seen

    ticket = Ticket()
    ticket.push(Piece("a", None, None, 1))
    ticket.fail(EngineError("broken"))
    assert asyncio.run(scene(ticket)) == ["a"]
    for _ in range(2):
        with pytest.raises(EngineError, match="broken") as caught:
            ticket.result(0)
        assert len(caught.traceback) == 3, "the traceback does not grow"


def test_nothing_comes_after_the_end() -> None:
    ticket = Ticket()
    speak(ticket, "a")
    ticket.fail(EngineError("late"))
    ticket.push(Piece("b", None, None, 1))
    ticket.cancel()
    assert ticket.result(0).text == "a"
    assert ticket.result(0).finish == "stop"


def test_a_ticket_that_waits_is_cancelled_at_once() -> None:
    ticket = Ticket()
    ticket.cancel()
    assert ticket.result(0).finish == "cancelled"
    assert not ticket.begin(3, frozenset())
    assert ticket.version is None


def test_a_ticket_that_is_answered_is_only_marked() -> None:
    ticket = Ticket()
    assert ticket.begin(3, frozenset({"a"}))
    ticket.cancel()
    assert ticket.cancelled and not ticket.done
    assert (ticket.version, ticket.erasers, ticket.gates) == (3, {"a"}, None)


def test_a_loop_that_is_gone_hurts_nobody() -> None:
    ticket = Ticket()
    loop = asyncio.new_event_loop()
    reader = ticket.pieces()
    task = loop.create_task(anext(reader))
    loop.run_until_complete(asyncio.sleep(0.01))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    other = ticket.pieces()
    waiting = loop.create_task(anext(other))
    loop.run_until_complete(asyncio.sleep(0.01))
    waiting._log_destroy_pending = False
    loop.close()
    speak(ticket, "a")
    assert ticket.result(0).text == "a"


def test_readers_that_leave_are_forgotten() -> None:
    async def scene(ticket: Ticket) -> None:
        reader = ticket.pieces()
        await anext(reader)
        await reader.aclose()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(ticket), 0.01)

    ticket = Ticket()
    ticket.push(Piece("a", None, None, 1))
    asyncio.run(scene(ticket))
    assert ticket._wakers == []
    gone = weakref.ref(ticket)
    del ticket
    gc.collect()
    assert gone() is None
