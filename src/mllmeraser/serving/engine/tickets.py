"""Requests, answers, and the handle between them, which any thread or event loop may use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from PIL import Image

from mllmeraser.erasure.steering import Readings
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.engine.logprobs import TokenLogprob
from mllmeraser.serving.engine.sampling import Sampling

Finish = Literal["stop", "length", "cancelled"]
Choose = Callable[[Any], Collection[str]]
"""Returns the names of a request's erasers, from the view of the set in force (see `Engine.apply`)."""


class Prompt(NamedTuple):
    """A prompt in the chat format, with an image placeholder for each of its pictures, in order."""

    text: str
    images: tuple[Image.Image, ...] = ()


class Piece(NamedTuple):
    """A part of an answer, or a whole one.

    Attributes:
        token_logprobs: Log-probabilities of its tokens; None if not requested.
        finish: Reason of the end, on the last piece only.
        tokens: Number of tokens decoded since the last piece, without the end token.
    """

    text: str
    token_logprobs: tuple[TokenLogprob, ...] | None
    finish: Finish | None
    tokens: int


class GateReading(NamedTuple):
    """What one gate read: the deciding score, the coefficient of the shift, and the score of each layer.

    Scores are the largest of the eraser's subjects. The coefficient is 0 if the gate did not fire. Not for clients.
    """

    pooled: float
    amplitude: float
    layers: Mapping[int, float]


class Ticket:
    """Handle of an answer.

    Attributes:
        version: Version of the eraser set of the answer; None until its batch begins.
        erasers: Names of the erasers that apply; None until its batch begins.
        prompt_tokens: Length of the prompt; None until it is encoded.
        done: Whether the answer has ended.
        cancelled: Whether `cancel` was called.
        readings: Gate readings of its batch, and its row in them; None until the prompt is read.
    """

    def __init__(self) -> None:
        """An answer in the queue."""
        self.version: int | None = None
        self.prompt_tokens: int | None = None
        self.erasers: frozenset[str] | None = None
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], None]] = []
        self._pieces: list[Piece] = []
        self._error: MLLMEraserError | None = None
        self.done = False
        self.cancelled = False
        self.readings: tuple[Readings, int] | None = None

    # -- for the caller --------------------------------------------------------------------------------

    @property
    def gates(self) -> dict[str, GateReading] | None:
        """Gate readings of its erasers; None until the prompt is read. Not for clients."""
        if self.readings is None or self.erasers is None:
            return None
        (readings, row), layers = self.readings, self.readings[0].per_layer
        return {
            name: GateReading(
                float(readings.pooled[row, number]),
                float(readings.amplitudes[row, number]),
                {layer: float(scores[row].amax()) for layer, scores in layers[name].items()},
            )
            for number, name in enumerate(readings.names)
            if name in self.erasers
        }

    def cancel(self) -> None:
        """End the answer: at once in the queue, at the next token in a batch. Never an error."""
        with self._changed:
            self.cancelled = True
            waits = self.version is None
        if waits:
            self.push(Piece("", None, "cancelled", 0))

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield all pieces as they arrive; the last one has `finish`. A failed answer then raises its error.

        Leaving early does not cancel.
        """
        loop, woken, seen = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake() -> None:
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(woken.set)

        with self._changed:
            self._wakers.append(wake)
        try:
            while True:
                woken.clear()
                with self._changed:
                    fresh, ended = self._pieces[seen:], self.done
                for piece in fresh:
                    yield piece
                seen += len(fresh)
                if ended:
                    self._raise()
                    return
                await woken.wait()
        finally:
            with self._changed:
                self._wakers.remove(wake)

    def result(self, timeout: float | None = None) -> Piece:
        """Wait for the whole answer, or raise its error, or `TimeoutError` after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"no answer after {timeout} seconds")
        self._raise()
        pieces = self._pieces
        logprobs = [piece.token_logprobs for piece in pieces if piece.token_logprobs is not None]
        return Piece(
            "".join(piece.text for piece in pieces),
            tuple(entry for part in logprobs for entry in part) if logprobs else None,
            pieces[-1].finish,
            sum(piece.tokens for piece in pieces),
        )

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    # -- for the engine --------------------------------------------------------------------------------

    def begin(self, version: int, erasers: frozenset[str]) -> bool:
        """Record the erasers of the answer; False if the answer has already ended."""
        with self._changed:
            if self.done:
                return False
            self.version, self.erasers = version, erasers
            return True

    def push(self, piece: Piece) -> None:
        """Pass on a piece, unless the answer has ended."""
        self._advance([piece], None)

    def fail(self, error: MLLMEraserError) -> None:
        """End with an error, unless the answer has ended."""
        self._advance([], error)

    def _advance(self, pieces: list[Piece], error: MLLMEraserError | None) -> None:
        with self._changed:
            if self.done:
                return
            self._pieces += pieces
            self._error = error
            self.done = error is not None or pieces[-1].finish is not None
            wakers = tuple(self._wakers)
            self._changed.notify_all()
        for wake in wakers:
            wake()


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request in the queue. Only this object holds the prompt, which is dropped with it.

    `since` is its arrival and `deadline` its latest end, by `time.monotonic()`. `context` is that of the submitting
    call, which holds the request's trace.
    """

    ticket: Ticket
    prompt: Prompt
    sampling: Sampling
    choose: Choose
    since: float
    deadline: float
    context: Context = field(default_factory=copy_context)
