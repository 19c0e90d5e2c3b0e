"""``/v1/chat/completions`` and ``/v1/models``, compatible with OpenAI's clients."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine import Busy, Choose, EngineError, Piece, Prompt, Sampling, Ticket, TimedOut
from mllmeraser.serving.engine.logprobs import TokenLogprob
from mllmeraser.serving.http.dialogue import ChatRequest, prompt_of
from mllmeraser.serving.http.errors import Refusal, body_of, noted
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.ledger import EraserSet, Principal

HEADER = "x-eraser-set"
ALIVE_SECONDS = 0.5
GONE = 499
"""Status after the client has disconnected; it appears in logs only."""
Numbered = tuple[int, Piece]
"""A piece with the number of its answer."""


def routes(server: Server) -> APIRouter:
    """The clients' routes."""
    router = APIRouter(tags=["client"])

    @router.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """Model names a client may use: the model, and the model with additional erasers."""
        return {"object": "list", "data": _models(server, await server.gatekeeper.admit(request, "client"))}

    @router.get("/v1/models/{id:path}")
    async def model(request: Request, id: str) -> dict[str, Any]:
        """One of them."""
        for entry in _models(server, await server.gatekeeper.admit(request, "client")):
            if entry["id"] == id:
                return entry
        raise Refusal(404, f"this server serves {server.settings.model_name}", "model_not_found")

    @router.post("/v1/chat/completions", response_model=None)
    async def completions(request: Request, body: ChatRequest) -> Response:
        """An answer, or a stream of its pieces."""
        principal = await server.gatekeeper.admit(request, "client")
        body.refuse_unsupported()
        if body.logprobs and not (server.settings.logprobs or principal.scope == "admin"):
            raise Refusal(400, "this server does not show log-probabilities", "unsupported_parameter")
        server.check_ready()
        choose = chooser(server, principal, body.model)
        prompt = await run_in_threadpool(prompt_of, body.messages, server.model, server.settings)
        tickets = _submitted(server, prompt, body.samplings(server.settings), choose)
        call = Call(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), body.model)
        return await (_stream if body.stream else _whole)(call, tickets, body, request)

    return router


def _models(server: Server, principal: Principal) -> list[dict[str, Any]]:
    base, erasers = server.settings.model_name, server.sync.current.erasers if server.sync.current else ()
    extra = [e.name for e in erasers if not e.default and e.tenant in (None, principal.tenant)]
    names = [base, *(f"{base}@{name}" for name in extra)]
    return [{"id": name, "object": "model", "created": 0, "owned_by": "mllmeraser"} for name in names]


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


def _submitted(server: Server, prompt: Prompt, samplings: Sequence[Sampling], choose: Choose) -> list[Ticket]:
    tickets: list[Ticket] = []
    try:
        for sampling in samplings:
            tickets.append(server.engine.submit(prompt, sampling, choose, deadline_s=server.settings.request_seconds))
    except EngineError as error:
        _cancel(tickets)
        raise refusal_of(error) from None
    return tickets


class Call(NamedTuple):
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
        answers = [task.result() for task in work]
    except Exception as error:
        raise refusal_of(error) from error
    finally:
        _cancel(tickets)
        for task in work:
            task.cancel()
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None},
            "logprobs": _logprobs(pieces) if body.logprobs else None,
            "finish_reason": pieces[-1].finish if pieces else "stop",
        }
        for number, pieces in enumerate(answers)
    ]
    version = min(ticket.version for ticket in tickets if ticket.version is not None)  # true of all answers
    content = call.part("chat.completion", version, choices, usage=_usage(tickets, answers))
    return JSONResponse(content, headers={HEADER: str(version)})


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


def _logprobs(pieces: Sequence[Piece]) -> dict[str, Any]:
    def entry(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}

    tokens = [token for piece in pieces for token in piece.token_logprobs or ()]
    content = [{**entry(token), "top_logprobs": [entry(one) for one in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _usage(tickets: Sequence[Ticket], answers: Sequence[Sequence[Piece]]) -> dict[str, int]:
    prompt = tickets[0].prompt_tokens or 0
    completion = sum(piece.tokens for pieces in answers for piece in pieces)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _stream(call: Call, tickets: Sequence[Ticket], body: ChatRequest, request: Request) -> Response:
    """Send server-sent events. The first piece is awaited, so an early failure has its own HTTP status."""
    merged, first = _merged(tickets), None
    try:
        first = await _first(merged, request)
    finally:
        if first is None:  # failed, client disconnected, or the server stops and cancels this call
            _cancel(tickets)
    if first is None:
        return Response(status_code=GONE)
    headers = {HEADER: str(tickets[first[0]].version)}
    return _Events(_events(call, tickets, body, first, merged), headers, tickets)


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
            _cancel(self._tickets)


async def _events(
    call: Call, tickets: Sequence[Ticket], body: ChatRequest, first: Numbered, merged: AsyncIterator[Numbered]
) -> AsyncIterator[str]:
    version = tickets[first[0]].version
    seen: list[list[Piece]] = [[] for _ in tickets]

    counted = body.stream_options is not None and body.stream_options.include_usage

    def event(version: int | None, choices: list[dict[str, Any]], **more: Any) -> str:
        blank = {"usage": None} if counted else {}  # as in OpenAI's chunks: null until the last
        return _event(call.part("chat.completion.chunk", version, choices, **{**blank, **more}))

    try:
        for number in range(len(tickets)):
            yield event(version, [_delta(number, {"role": "assistant", "content": ""})])
        number, piece = first
        while True:
            seen[number].append(piece)
            probs = _logprobs([piece]) if body.logprobs else None
            if piece.text or probs:
                yield event(tickets[number].version, [_delta(number, {"content": piece.text}, logprobs=probs)])
            if piece.finish is not None:
                yield event(tickets[number].version, [_delta(number, {}, finish=piece.finish)])
            try:
                number, piece = await anext(merged)
            except StopAsyncIteration:
                break
        if counted:
            yield event(version, [], usage=_usage(tickets, seen))
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status was sent: the stream ends with the error
        refusal = refusal_of(error)
        noted(refusal, call.id)
        yield _event(body_of(refusal.status, refusal.message, refusal.code))


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


def _delta(number: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _cancel(tickets: Sequence[Ticket]) -> None:
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
