"""``/v1/responses``, compatible with OpenAI's clients. Nothing is stored: each request holds its whole conversation."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, StrictBool

from mllmeraser.serving.engine import Piece, Sampling, Ticket
from mllmeraser.serving.http import answers
from mllmeraser.serving.http.answers import GONE, HEADER, Usage, event, text_of
from mllmeraser.serving.http.dialogue import LONGEST_TEXT, MESSAGES, ImageAddress, ImagePart, Message, TextPart
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.settings import ServeSettings

UNSUPPORTED = (
    "previous_response_id", "conversation", "prompt", "background", "tools", "include", "reasoning", "top_logprobs",
)  # fmt: skip
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class InputText(BaseModel):
    """A piece of text: of the client, or of an earlier answer."""

    type: Literal["input_text", "output_text"]
    text: Text


class InputImage(BaseModel):
    """A picture."""

    type: Literal["input_image"]
    image_url: str


class Item(BaseModel):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Annotated[InputText | InputImage, Field(discriminator="type")]]

    def message(self) -> Message:
        """The turn as a message of a chat."""
        if isinstance(self.content, str):
            return Message(role=self.role, content=self.content)
        return Message(role=self.role, content=[_part(part) for part in self.content])


class TextFormat(BaseModel):
    """The format of the answer: text."""

    format: dict[str, Any] | None = None


class ResponseRequest(BaseModel):
    """Body of ``POST /v1/responses``. Unknown fields are ignored: OpenAI may add some."""

    model: Annotated[str, Field(max_length=512)]
    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MESSAGES)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stream: StrictBool | None = None
    text: TextFormat | None = None
    truncation: Literal["disabled"] | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: StrictBool | None = None
    tools: Any = None
    include: Any = None
    reasoning: Any = None
    top_logprobs: int | None = None

    def refuse_unsupported(self) -> None:
        """Raise `Refusal` (400) for settings that the answer would ignore."""
        for name in UNSUPPORTED:
            if getattr(self, name):
                raise Refusal(400, f"{name} is not supported: leave it out", "unsupported_parameter")
        if self.text is not None and (self.text.format or {"type": "text"}) != {"type": "text"}:
            raise Refusal(400, "text.format is not supported: leave it out", "unsupported_parameter")

    def messages(self) -> list[Message]:
        """The conversation, with the instructions as a message of the system before it."""
        first = [] if self.instructions is None else [Message(role="system", content=self.instructions)]
        if isinstance(self.input, str):
            return [*first, Message(role="user", content=self.input)]
        return [*first, *(item.message() for item in self.input)]

    def sampling(self, settings: ServeSettings) -> Sampling:
        """Sampling settings; decoding is greedy without a temperature."""
        return Sampling(
            max_tokens=min(self.max_output_tokens or settings.max_tokens, settings.max_tokens),
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
        )


def _part(part: InputText | InputImage) -> TextPart | ImagePart:
    if isinstance(part, InputText):
        return TextPart(type="text", text=part.text)
    return ImagePart(type="image_url", image_url=ImageAddress(url=part.image_url))


def routes(server: Server) -> APIRouter:
    """The route of responses."""
    router = APIRouter(tags=["client"])

    @router.post("/v1/responses", response_model=None)
    async def respond(request: Request, body: ResponseRequest) -> Response:
        """An answer, or a stream of its events. The whole conversation is in `input`; nothing is stored."""
        principal = await server.gatekeeper.admit(request, "client")
        body.refuse_unsupported()
        sampling = body.sampling(server.settings)
        tickets = await answers.submitted(server, principal, body.model, body.messages(), [sampling])
        writer = Writer(body, tickets)
        if body.stream:
            return await answers.stream(writer, tickets, request)
        found = await answers.whole(tickets, request)
        if found is None:
            return Response(status_code=GONE)
        content = writer.whole(found[0], answers.usage_of(tickets, found))
        return JSONResponse(content, headers={HEADER: str(answers.version_of(tickets))})

    return router


class Writer:
    """Writes an answer as a response, or as its events."""

    def __init__(self, body: ResponseRequest, tickets: Sequence[Ticket]) -> None:
        """The answer of the only ticket to a request."""
        self.id, self._message = f"resp_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
        self._created, self._body, self._ticket = int(time.time()), body, tickets[0]
        self._pieces: list[Piece] = []
        self._events = 0

    def whole(self, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """The body of a response."""
        cut = bool(pieces) and pieces[-1].finish == "length"
        status = "incomplete" if cut else "completed"
        output = [self._item(status, [_text(text_of(pieces))])]
        why = {"reason": "max_output_tokens"} if cut else None
        return self._response(status, output, incomplete_details=why, usage=_usage(usage))

    def begin(self) -> Iterator[str]:
        """The response, its message and the text in it, all empty."""
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        yield self._event("response.output_item.added", output_index=0, item=self._item("in_progress", []))
        yield self._event("response.content_part.added", **self._place(), part=_text(""))

    def piece(self, _: int, piece: Piece) -> Iterator[str]:
        """A text."""
        self._pieces.append(piece)
        if piece.text:
            yield self._event("response.output_text.delta", **self._place(), delta=piece.text, logprobs=[])

    def end(self, usage: Usage) -> Iterator[str]:
        """The text, its message and the response, all whole."""
        done, text = self.whole(self._pieces, usage), text_of(self._pieces)
        yield self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=_text(text))
        yield self._event("response.output_item.done", output_index=0, item=done["output"][0])
        yield self._event(f"response.{done['status']}", response=done)

    def _event(self, kind: str, **content: Any) -> str:
        number, self._events = self._events, self._events + 1
        return event({"type": kind, "sequence_number": number, **content}, kind)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message, "output_index": 0, "content_index": 0}

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "message", "id": self._message, "status": status, "role": "assistant", "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        body = self._body
        return {
            "id": self.id, "object": "response", "created_at": self._created, "status": status, "error": None,
            "incomplete_details": None, "instructions": body.instructions, "metadata": {},
            "max_output_tokens": body.max_output_tokens, "model": body.model, "output": output,
            "parallel_tool_calls": False, "previous_response_id": None, "store": False, "temperature": body.temperature,
            "text": {"format": {"type": "text"}}, "tool_choice": "none", "tools": [], "top_p": body.top_p,
            "truncation": "disabled", "system_fingerprint": f"set-{self._ticket.version}", "usage": None, **more,
        }  # fmt: skip


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    prompt, completion = usage
    return {
        "input_tokens": prompt, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }  # fmt: skip
