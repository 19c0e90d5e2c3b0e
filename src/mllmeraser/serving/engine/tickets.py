"""What goes in, what comes out, and the handle in between, which any thread and any event loop may hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from mllmeraser.erasure.steering.attach import Readings
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.engine.logprobs import TokenLogprob
from mllmeraser.serving.engine.sampling import Sampling

Finish = Literal["stop", "length", "cancelled"]
Choose = Callable[[Any], Collection[str]]
"""Names of the erasers of a request, from the view of what is in force (see `Engine.apply`)."""


@dataclass(frozen=True)
class Prompt:
    """A prompt in the chat format, with one image placeholder where there is a picture."""

    text: str
    image: Image.Image | None = None


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: What was said since the last piece; may be empty.
        token_logprobs: Of the tokens that belong to it; None where none were asked for.
        finish: Why the answer ended, on its last piece; else None.
        tokens: Tokens decoded since the last piece; the end token is none.
    """

    text: str
    token_logprobs: tuple[TokenLogprob, ...] | None
    finish: Finish | None
    tokens: int


@dataclass(frozen=True)
class Answer:
    """All pieces of an answer as one."""

    text: str
    token_logprobs: tuple[TokenLogprob, ...] | None
    finish: Finish
    tokens: int


@dataclass(frozen=True)
class GateReading:
    """What the gate of one eraser said about a prompt; not for clients.

    Attributes:
        pooled: Score that decides, the largest of its subjects.
        amplitude: Coefficient of the shift: 0 where it did not fire.
        layers: Largest score of its subjects at each layer that is read.
    """

    pooled: float
    amplitude: float
    layers: Mapping[int, float]


class Ticket:
    """An answer on its way.

    Attributes:
        version: Of the set of erasers that the answer is made under; None until its batch begins.
        erasers: Names of those that apply to it; None until its batch begins.
        prompt_tokens: Length of its prompt; None until it is encoded.
    """

    def __init__(self) -> None:
        """An answer that waits for its batch."""
        self.version: int | None = None
        self.prompt_tokens: int | None = None
        self.erasers: frozenset[str] | None = None
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], None]] = []
        self._pieces: list[Piece] = []
        self._error: MLLMEraserError | None = None
        self._ended = False
        self._cancelled = False
        self._read: tuple[Readings, int] | None = None

    # -- for whoever asked -----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    @property
    def gates(self) -> dict[str, GateReading] | None:
        """What the gates of its erasers said, once the prompt is read; None before. Not for clients."""
        if self._read is None or self.erasers is None:
            return None
        (readings, row), layers = self._read, self._read[0].per_layer
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
        """End the answer: at once while it waits, at the next token while it is made. Never an error."""
        with self._changed:
            self._cancelled = True
            waits = self.version is None
        if waits:
            self.push(Piece("", None, "cancelled", 0))

    async def pieces(self) -> AsyncIterator[Piece]:
        """The pieces as they come, from the first; the last one has `finish`. Leaving early does not cancel.

        Raises:
            MLLMEraserError: If the answer failed; what came before was yielded.
        """
        loop, woken, seen = asyncio.get_running_loop(), asyncio.Event(), 0
        with self._listening(lambda: loop.call_soon_threadsafe(woken.set)):
            while True:
                woken.clear()
                with self._changed:
                    fresh, ended = self._pieces[seen:], self._ended
                for piece in fresh:
                    yield piece
                seen += len(fresh)
                if ended:
                    self._raise()
                    return
                await woken.wait()

    async def answer(self) -> Answer:
        """The whole answer, for an event loop.

        Raises:
            MLLMEraserError: If the answer failed.
        """
        async for _ in self.pieces():
            pass
        return self._whole()

    def result(self, timeout: float | None = None) -> Answer:
        """The whole answer, for a thread.

        Raises:
            MLLMEraserError: If the answer failed.
            TimeoutError: If it is not there after `timeout` seconds; it is still being made.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended, timeout):
                raise TimeoutError(f"no answer after {timeout} seconds")
        self._raise()
        return self._whole()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _whole(self) -> Answer:
        pieces = self._pieces
        logprobs = [piece.token_logprobs for piece in pieces if piece.token_logprobs is not None]
        finish = pieces[-1].finish
        assert finish is not None
        return Answer(
            "".join(piece.text for piece in pieces),
            tuple(entry for part in logprobs for entry in part) if logprobs else None,
            finish,
            sum(piece.tokens for piece in pieces),
        )

    @contextmanager
    def _listening(self, wake: Callable[[], object]) -> Iterator[None]:
        def safely() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                wake()

        with self._changed:
            self._wakers.append(safely)
        try:
            yield
        finally:
            with self._changed:
                self._wakers.remove(safely)

    # -- for the engine --------------------------------------------------------------------------------

    def begin(self, version: int, erasers: frozenset[str]) -> bool:
        """Note under what the answer is made; False if it has ended already."""
        with self._changed:
            if self._ended:
                return False
            self.version, self.erasers = version, erasers
            return True

    def read(self, readings: Readings, row: int) -> None:
        """Note what the gates said about row `row`."""
        self._read = (readings, row)

    def push(self, piece: Piece) -> None:
        """Hand on a piece; nothing after the end."""
        with self._changed:
            if self._ended:
                return
            self._pieces.append(piece)
            self._ended = piece.finish is not None
        self._tell()

    def fail(self, error: MLLMEraserError) -> None:
        """End with an error; nothing after the end."""
        with self._changed:
            if self._ended:
                return
            self._error, self._ended = error, True
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            wakers = tuple(self._wakers)
            self._changed.notify_all()
        for wake in wakers:
            wake()


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request in the queue; the prompt is held here alone, and dropped with it.

    Attributes:
        ticket: The handle of its answer.
        prompt: What is asked.
        sampling: How the answer is decoded.
        choose: Says which erasers apply, once it is known what is in force.
        since: `time.monotonic()` when it came.
        deadline: `time.monotonic()` when it is of no use any more.
        context: That of the call which made it; whoever watches batches finds the request's trace in it.
    """

    ticket: Ticket
    prompt: Prompt
    sampling: Sampling
    choose: Choose
    since: float
    deadline: float
    context: Context = field(default_factory=copy_context)
