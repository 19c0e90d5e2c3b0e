"""Answers of the engine, for every route that clients ask: which erasers apply, waiting for a whole answer, streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine import Busy, Choose, EngineError, Piece, Sampling, Ticket, TimedOut
from mllmeraser.serving.http.dialogue import Message, prompt_of
from mllmeraser.serving.http.errors import Refusal, body_of, noted
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.ledger import EraserSet, Principal

HEADER = "x-eraser-set"
ALIVE_SECONDS = 0.5
GONE = 499
"""Status after the client has disconnected; it appears in logs only."""
Numbered = tuple[int, Piece]
"""A piece with the number of its answer."""


class Usage(NamedTuple):
    """Tokens of a request: of its prompt, and of all its answers."""

    prompt: int
    completion: int


class Writer(Protocol):
    """Writes the events of a stream in the format of a route."""

    id: str

    def begin(self) -> Iterable[str]:
        """Events before the first piece."""

    def piece(self, number: int, piece: Piece) -> Iterable[str]:
        """Events of a piece of answer `number`."""

    def end(self, usage: Usage) -> Iterable[str]:
        """Events after the last piece."""


def chooser(server: Server, principal: Principal, model: str) -> Choose:
    """Return the callable that chooses a request's erasers: the default ones, and those of the model name.

    The name is ``model@eraser`` or ``model@one+another``; another model raises `Refusal` (404). The callable raises if
    the server has a fault when the batch begins.
    """
    base, _, names = model.partition("@")
    if base != server.settings.model_name:
        raise Refusal(404, f"this server serves {server.settings.model_name}", "model_not_found")
    wanted = tuple(name for name in names.split("+") if name)

    def choose(view: EraserSet) -> frozenset[str]:
        fault = server.sync.fault()
        if fault is not None:
            raise EngineError(fault.details)
        return view.chosen(principal.tenant, wanted)

    return choose


async def submitted(
    server: Server, principal: Principal, model: str, messages: list[Message], samplings: Sequence[Sampling]
) -> list[Ticket]:
    """Ask the engine once for each of `samplings`, with the erasers of the tenant and of the model name.

    Raises:
        Refusal: The server answers nothing now, or the request is not valid.
    """
    server.check_ready()
    choose = chooser(server, principal, model)
    prompt = await run_in_threadpool(prompt_of, messages, server.model, server.settings)
    tickets: list[Ticket] = []
    try:
        for sampling in samplings:
            tickets.append(server.engine.submit(prompt, sampling, choose, deadline_s=server.settings.request_seconds))
    except EngineError as error:
        cancel(tickets)
        raise refusal_of(error) from None
    return tickets


async def whole(tickets: Sequence[Ticket], request: Request) -> list[list[Piece]] | None:
    """The pieces of each answer once all have ended; None if the client disconnects before."""
    work = [asyncio.ensure_future(_collected(ticket)) for ticket in tickets]
    try:
        return [task.result() for task in work] if await _finished(work, request) else None
    except Exception as error:
        raise refusal_of(error) from error
    finally:
        cancel(tickets)
        for task in work:
            task.cancel()


def version_of(tickets: Sequence[Ticket]) -> int:
    """Version of the set of erasers that holds for all answers."""
    return min(ticket.version for ticket in tickets if ticket.version is not None)


def text_of(pieces: Sequence[Piece]) -> str:
    """The text of an answer."""
    return "".join(piece.text for piece in pieces)


def usage_of(tickets: Sequence[Ticket], answers: Sequence[Sequence[Piece]]) -> Usage:
    """Tokens of the prompt and of all answers."""
    return Usage(tickets[0].prompt_tokens or 0, sum(piece.tokens for pieces in answers for piece in pieces))


async def stream(writer: Writer, tickets: Sequence[Ticket], request: Request) -> Response:
    """Send server-sent events. The first piece is awaited, so an early failure has its own HTTP status."""
    merged, first = _merged(tickets), None
    try:
        first = await _first(merged, request)
    finally:
        if first is None:  # failed, client disconnected, or the server stops and cancels this call
            cancel(tickets)
    if first is None:
        return Response(status_code=GONE)
    headers = {HEADER: str(tickets[first[0]].version)}
    return _Events(_events(writer, tickets, first, merged), headers, tickets)


def event(content: Mapping[str, Any], kind: str | None = None) -> str:
    """One server-sent event."""
    name = "" if kind is None else f"event: {kind}\n"
    return f"{name}data: {json.dumps(content, ensure_ascii=False)}\n\n"


def cancel(tickets: Sequence[Ticket]) -> None:
    """Stop answering."""
    for ticket in tickets:
        ticket.cancel()


def refusal_of(error: Exception) -> Refusal:
    """Turn an error of the engine into a refusal."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Busy):
        return Refusal(429, "too many requests are waiting", "busy", retry_after=error.retry_after_s)
    if isinstance(error, TimedOut):
        return Refusal(504, "the time for this request is over", "timeout")
    if isinstance(error, EngineError):
        return Refusal(503, str(error), "not_ready", retry_after=5)
    if isinstance(error, InputError):
        return Refusal(400, str(error))
    return Refusal(500, f"internal error ({type(error).__name__}); nothing was answered")


async def _finished(work: Sequence[asyncio.Future[Any]], request: Request) -> bool:
    """Wait for all of `work`; False if the client disconnects before."""
    while (await asyncio.wait(work, timeout=ALIVE_SECONDS))[1]:
        if await request.is_disconnected():
            return False
    return True


async def _collected(ticket: Ticket) -> list[Piece]:
    return [piece async for piece in _trimmed(ticket)]


async def _trimmed(ticket: Ticket) -> AsyncIterator[Piece]:
    """Yield the pieces of an answer without leading whitespace, which belongs to the chat format."""
    begun = False
    async for piece in ticket.pieces():
        text = piece.text if begun else piece.text.lstrip()
        begun = begun or bool(text)
        yield piece._replace(text=text)


async def _first(merged: AsyncIterator[Numbered], request: Request) -> Numbered | None:
    """Return the first piece; None if the client disconnects before."""
    begun = asyncio.ensure_future(anext(merged))
    try:
        return begun.result() if await _finished([begun], request) else None
    except Exception as error:
        raise refusal_of(error) from error
    finally:
        begun.cancel()


class _Events(StreamingResponse):
    """Server-sent events; cancels the tickets at the end, even if nothing was sent."""

    def __init__(self, events: AsyncIterator[str], headers: Mapping[str, str], tickets: Sequence[Ticket]) -> None:
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._tickets = tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            cancel(self._tickets)


async def _events(
    writer: Writer, tickets: Sequence[Ticket], first: Numbered, merged: AsyncIterator[Numbered]
) -> AsyncIterator[str]:
    seen: list[list[Piece]] = [[] for _ in tickets]
    try:
        for line in writer.begin():
            yield line
        number, piece = first
        while True:
            seen[number].append(piece)
            for line in writer.piece(number, piece):
                yield line
            try:
                number, piece = await anext(merged)
            except StopAsyncIteration:
                break
        for line in writer.end(usage_of(tickets, seen)):
            yield line
    except Exception as error:  # the status was sent: the stream ends with the error
        refusal = refusal_of(error)
        noted(refusal, writer.id)
        yield event(body_of(refusal.status, refusal.message, refusal.code))


async def _merged(tickets: Sequence[Ticket]) -> AsyncIterator[Numbered]:
    """Yield the pieces of several answers as they arrive, each with the number of its answer."""
    sources = [_trimmed(ticket) for ticket in tickets]
    waiting = {asyncio.ensure_future(anext(source)): number for number, source in enumerate(sources)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                number = waiting.pop(task)
                try:
                    piece = task.result()
                except StopAsyncIteration:
                    continue
                waiting[asyncio.ensure_future(anext(sources[number]))] = number
                yield number, piece
    finally:
        for task in waiting:
            task.cancel()
