"""``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``, compatible with OpenAI's clients."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mllmeraser.serving.engine import Piece, Ticket
from mllmeraser.serving.engine.logprobs import TokenLogprob
from mllmeraser.serving.http import answers
from mllmeraser.serving.http.answers import GONE, HEADER, Usage, event, text_of
from mllmeraser.serving.http.dialogue import ChatRequest, TextRequest
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.ledger import Principal


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
    async def chat(request: Request, body: ChatRequest) -> Response:
        """An answer, or a stream of its pieces."""
        return await _answered(server, request, body, Chat)

    @router.post("/v1/completions", response_model=None)
    async def completions(request: Request, body: TextRequest) -> Response:
        """As `/v1/chat/completions`, for clients of the older format: the prompt is one message of the user."""
        return await _answered(server, request, body.as_chat(), Completion)

    return router


async def _answered(server: Server, request: Request, body: ChatRequest, kind: type[Chat]) -> Response:
    principal = await server.gatekeeper.admit(request, "client")
    body.refuse_unsupported()
    if body.logprobs and not (server.settings.logprobs or principal.scope == "admin"):
        raise Refusal(400, "this server does not show log-probabilities", "unsupported_parameter")
    samplings = body.samplings(server.settings)
    tickets = await answers.submitted(server, principal, body.model, body.messages, samplings)
    writer = kind(body, tickets)
    if body.stream:
        return await answers.stream(writer, tickets, request)
    found = await answers.whole(tickets, request)
    if found is None:
        return Response(status_code=GONE)
    version = answers.version_of(tickets)
    content = writer.whole(version, found, answers.usage_of(tickets, found))
    return JSONResponse(content, headers={HEADER: str(version)})


def _models(server: Server, principal: Principal) -> list[dict[str, Any]]:
    base, erasers = server.settings.model_name, server.sync.current.erasers if server.sync.current else ()
    extra = [e.name for e in erasers if not e.default and e.tenant in (None, principal.tenant)]
    names = [base, *(f"{base}@{name}" for name in extra)]
    return [{"id": name, "object": "model", "created": 0, "owned_by": "mllmeraser"} for name in names]


class Chat:
    """Writes answers as chat completions."""

    prefix, kind, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, body: ChatRequest, tickets: Sequence[Ticket]) -> None:
        """The answers of `tickets` to a request."""
        self.id, self._created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())
        self._body, self._tickets = body, tickets
        self._counted = body.stream_options is not None and body.stream_options.include_usage

    def whole(self, version: int, found: Sequence[Sequence[Piece]], usage: Usage) -> dict[str, Any]:
        """The body of a response."""
        choices = [self._choice(number, pieces) for number, pieces in enumerate(found)]
        return self._part(self.kind, version, choices, usage=_usage(usage))

    def begin(self) -> Iterator[str]:
        """The role of each answer."""
        version = answers.version_of(self._tickets)
        for number in range(len(self._tickets)):
            yield self._event(version, [self._delta(number, {"role": "assistant", "content": ""})])

    def piece(self, number: int, piece: Piece) -> Iterator[str]:
        """A text, and the end of an answer."""
        version = self._tickets[number].version
        probs = _logprobs([piece]) if self._body.logprobs else None
        if piece.text or probs:
            yield self._event(version, [self._delta(number, {"content": piece.text}, logprobs=probs)])
        if piece.finish is not None:
            yield self._event(version, [self._delta(number, {}, finish=piece.finish)])

    def end(self, usage: Usage) -> Iterator[str]:
        """The usage, if asked for, and the end of the stream."""
        if self._counted:
            yield self._event(answers.version_of(self._tickets), [], usage=_usage(usage))
        yield "data: [DONE]\n\n"

    def _choice(self, number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        return {
            "index": number,
            "message": {"role": "assistant", "content": text_of(pieces), "refusal": None},
            "logprobs": _logprobs(pieces) if self._body.logprobs else None,
            "finish_reason": pieces[-1].finish if pieces else "stop",
        }

    def _delta(
        self, number: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _event(self, version: int | None, choices: list[dict[str, Any]], **more: Any) -> str:
        blank = {"usage": None} if self._counted else {}  # as in OpenAI's chunks: null until the last
        return event(self._part(self.chunk, version, choices, **{**blank, **more}))

    def _part(self, kind: str, version: int | None, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self._created, "model": self._body.model,
                "system_fingerprint": f"set-{version}", "choices": choices, **more}  # fmt: skip


class Completion(Chat):
    """Writes answers as completions, the older format."""

    prefix, kind, chunk = "cmpl", "text_completion", "text_completion"

    def begin(self) -> Iterator[str]:
        """Nothing: this format has no roles."""
        return iter(())

    def _choice(self, number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        finish = pieces[-1].finish if pieces else "stop"
        return {"index": number, "text": text_of(pieces), "logprobs": None, "finish_reason": finish}

    def _delta(
        self, number: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        return {"index": number, "text": delta.get("content", ""), "logprobs": logprobs, "finish_reason": finish}


def _logprobs(pieces: Sequence[Piece]) -> dict[str, Any]:
    def entry(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}

    tokens = [token for piece in pieces for token in piece.token_logprobs or ()]
    content = [{**entry(token), "top_logprobs": [entry(one) for one in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _usage(usage: Usage) -> dict[str, int]:
    prompt, completion = usage
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
