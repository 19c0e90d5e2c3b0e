"""``/v1/chat/completions`` and ``/v1/models``, as OpenAI's clients know them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine import Busy, Choose, EngineError, Piece, Ticket, TimedOut
from mllmeraser.serving.http.dialogue import ChatRequest, prompt_of
from mllmeraser.serving.http.errors import Refusal, body_of, noted
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.ledger import EraserSet, Principal

HEADER = "x-eraser-set"
ALIVE_SECONDS = 0.5
GONE = 499
"""Status of what nobody waits for any more; it is seen in logs alone."""


def routes(server: Server) -> APIRouter:
    """The clients' routes."""
    router = APIRouter(tags=["client"])

    @router.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """Names that can be asked: the model, and the model with further erasers."""
        principal = await server.gatekeeper.admit(request, "client")
        found = server.keeper.current
        extra = [e.name for e in found.erasers if _selectable(e.tenant, e.default, principal)] if found else []
        base = server.settings.model_name
        names = [base, *(f"{base}@{name}" for name in extra)]
        return {"object": "list", "data": [_model(name) for name in names]}

    @router.post("/v1/chat/completions", response_model=None)
    async def completions(request: Request, body: ChatRequest) -> Response:
        """An answer, or a stream of its pieces."""
        principal = await server.gatekeeper.admit(request, "client")
        body.refuse_unsupported()
        if body.logprobs and not (server.settings.logprobs or principal.scope == "admin"):
            raise Refusal(400, "this server does not show log-probabilities", "unsupported_parameter")
        server.check_ready()
        wanted = wanted_of(body.model, server.settings.model_name)
        prompt = await run_in_threadpool(prompt_of, body.messages, server.model, server.settings)
        tickets = _submitted(server, [(prompt, one) for one in body.samplings(server.settings)], principal, wanted)
        call = Call(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), body.model)
        if body.stream:
            return await _stream(call, tickets, body, request)
        return await _whole(call, tickets, body, request)

    return router


def wanted_of(model: str, served: str) -> tuple[str, ...]:
    """Erasers that a model's name selects: ``model@eraser`` or ``model@one+another``.

    Raises:
        Refusal: It is another model.
    """
    base, _, names = model.partition("@")
    if base != served:
        raise Refusal(404, f"this server serves {served}", "model_not_found")
    return tuple(name for name in names.split("+") if name)


def chooser(server: Server, principal: Principal, wanted: Sequence[str]) -> Choose:
    """Chooses the erasers of a request when its batch begins; what waited while the server failed is not answered."""

    def choose(view: EraserSet) -> frozenset[str]:
        fault = server.keeper.fault()
        if fault is not None:
            raise EngineError(fault)
        return view.chosen(principal.tenant, wanted)

    return choose


def _submitted(
    server: Server, asked: Sequence[tuple[Any, Any]], principal: Principal, wanted: Sequence[str]
) -> list[Ticket]:
    choose = chooser(server, principal, wanted)
    tickets: list[Ticket] = []
    try:
        for prompt, sampling in asked:
            tickets.append(server.engine.submit(prompt, sampling, choose, deadline_s=server.settings.request_seconds))
    except Busy as error:
        _cancel(tickets)
        raise Refusal(429, "too many requests are waiting", "busy", retry_after=error.retry_after_s) from None
    except EngineError as error:
        _cancel(tickets)
        raise Refusal(503, str(error), "not_ready", retry_after=5) from None
    return tickets


@dataclass(frozen=True)
class Call:
    """What all parts of one answer share."""

    id: str
    created: int
    model: str

    def part(self, kind: str, version: int | None, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """One JSON object of the answer."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model,
                "system_fingerprint": f"set-{version}", "choices": choices, **more}  # fmt: skip


async def _whole(call: Call, tickets: Sequence[Ticket], body: ChatRequest, request: Request) -> Response:
    work = [asyncio.ensure_future(_collected(ticket)) for ticket in tickets]
    try:
        if not await _finished(work, request):
            return Response(status_code=GONE)
        found = [task.result() for task in work]
    except Exception as error:
        raise _refusal(error) from error
    finally:
        _cancel(tickets)
        for task in work:
            task.cancel()
    choices = [_choice(number, pieces, body) for number, pieces in enumerate(found)]
    versions = {ticket.version for ticket in tickets}
    version = min(v for v in versions if v is not None)  # what holds for all of them
    usage = _usage(tickets, found)
    content = call.part("chat.completion", version, choices, usage=usage)
    return JSONResponse(content, headers={HEADER: str(version)})


async def _finished(work: Sequence[asyncio.Future[Any]], request: Request) -> bool:
    """Wait for all of `work`; False if the client hangs up before."""
    while (await asyncio.wait(work, timeout=ALIVE_SECONDS))[1]:
        if await request.is_disconnected():
            return False
    return True


async def _collected(ticket: Ticket) -> list[Piece]:
    return [piece async for piece in _trimmed(ticket)]


async def _trimmed(ticket: Ticket) -> AsyncIterator[Piece]:
    """The pieces of an answer without the blanks before its first word, which are the chat format's."""
    begun = False
    async for piece in ticket.pieces():
        text = piece.text if begun else piece.text.lstrip()
        begun = begun or bool(text)
        yield replace(piece, text=text)


def _choice(number: int, pieces: Sequence[Piece], body: ChatRequest) -> dict[str, Any]:
    text = "".join(piece.text for piece in pieces)
    finish = pieces[-1].finish if pieces else "stop"
    logprobs = _logprobs(pieces) if body.logprobs else None
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(pieces: Sequence[Piece]) -> dict[str, Any]:
    content = []
    for piece in pieces:
        for token in piece.token_logprobs or ():
            top = [{"token": t.token, "logprob": t.logprob, "bytes": list(t.bytes)} for t in token.top]
            content.append({"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes),
                            "top_logprobs": top})  # fmt: skip
    return {"content": content, "refusal": None}


def _usage(tickets: Sequence[Ticket], found: Sequence[Sequence[Piece]]) -> dict[str, int]:
    asked = tickets[0].prompt_tokens or 0
    said = sum(piece.tokens for pieces in found for piece in pieces)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


async def _stream(call: Call, tickets: Sequence[Ticket], body: ChatRequest, request: Request) -> Response:
    """Server-sent events. The first piece is awaited, so that what fails at once has a status of its own."""
    merged, first = _merged(tickets), None
    try:
        first = await _first(merged, request)
    finally:
        if first is None:  # it failed, the client hung up, or the server ends and this call with it
            _cancel(tickets)
    if first is None:
        return Response(status_code=GONE)
    headers = {HEADER: str(tickets[first[0]].version)}
    return _Events(_events(call, tickets, body, first, merged), headers, tickets)


async def _first(merged: AsyncIterator[tuple[int, Piece]], request: Request) -> tuple[int, Piece] | None:
    """The first piece; None if the client hangs up before."""
    begun = asyncio.ensure_future(anext(merged))
    try:
        return begun.result() if await _finished([begun], request) else None
    except Exception as error:
        raise _refusal(error) from error
    finally:
        begun.cancel()


class _Events(StreamingResponse):
    """Server-sent events, and the tickets that end with them, even where nothing of them was sent."""

    def __init__(self, events: AsyncIterator[str], headers: Mapping[str, str], tickets: Sequence[Ticket]) -> None:
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._tickets = tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _cancel(self._tickets)


async def _events(
    call: Call,
    tickets: Sequence[Ticket],
    body: ChatRequest,
    first: tuple[int, Piece],
    merged: AsyncIterator[tuple[int, Piece]],
) -> AsyncIterator[str]:
    kind, version = "chat.completion.chunk", tickets[first[0]].version
    seen: list[list[Piece]] = [[] for _ in tickets]
    try:
        for number in range(len(tickets)):
            yield _event(call.part(kind, version, [_delta(number, {"role": "assistant", "content": ""})]))
        number, piece = first
        while True:
            seen[number].append(piece)
            probs = _logprobs([piece]) if body.logprobs else None
            if piece.text or probs:
                change = _delta(number, {"content": piece.text}, logprobs=probs)
                yield _event(call.part(kind, tickets[number].version, [change]))
            if piece.finish is not None:
                change = _delta(number, {}, finish=piece.finish)
                yield _event(call.part(kind, tickets[number].version, [change]))
            try:
                number, piece = await anext(merged)
            except StopAsyncIteration:
                break
        if body.stream_options is not None and body.stream_options.include_usage:
            yield _event(call.part(kind, version, [], usage=_usage(tickets, seen)))
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status is out already: the stream ends with the error
        refusal = _refusal(error)
        noted(refusal, call.id)
        yield f"data: {json.dumps(body_of(refusal.status, refusal.message, refusal.code))}\n\n"


async def _merged(tickets: Sequence[Ticket]) -> AsyncIterator[tuple[int, Piece]]:
    """Pieces of several answers as they come, each with the number of its answer."""
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


def _delta(number: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _cancel(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.cancel()


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimedOut):
        return Refusal(504, "the time for this request is over", "timeout")
    if isinstance(error, EngineError):
        return Refusal(503, str(error), "not_ready", retry_after=5)
    if isinstance(error, InputError):
        return Refusal(400, str(error))
    return Refusal(500, f"internal error ({type(error).__name__}); nothing was answered")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "mllmeraser"}


def _selectable(tenant: str | None, default: bool, principal: Principal) -> bool:
    return not default and (tenant is None or tenant == principal.tenant)
