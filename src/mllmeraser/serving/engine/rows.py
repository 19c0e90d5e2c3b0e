"""One row of a batch: its answer as it grows, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mllmeraser.erasure.steering.attach import Readings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.serving.engine.errors import EngineError, TimedOut
from mllmeraser.serving.engine.logprobs import TokenLogprob
from mllmeraser.serving.engine.sampling import Draw
from mllmeraser.serving.engine.text import Said, TextStream
from mllmeraser.serving.engine.tickets import Finish, Piece, Waiting


class Row:
    """A request whose batch has begun.

    Attributes:
        waiting: The request.
        ticket: The handle of its answer.
        names: Erasers that apply to it.
        limit: Longest answer in tokens, once the prompt is encoded.
        draw: Its random choices; None: the most likely token.
        said: Tokens decoded.
        ended: Why it ended, or `"failed"`; None while it goes on.
    """

    def __init__(self, waiting: Waiting, names: frozenset[str], model: MultimodalModel) -> None:
        """Begin with nothing said."""
        self.waiting, self.names = waiting, names
        self.ticket = waiting.ticket
        self.limit = waiting.sampling.max_tokens
        self.draw = Draw.of(waiting.sampling)
        self.said = 0
        self.ended: Finish | str | None = None
        self._stream = TextStream(model.processor.tokenizer, waiting.sampling.stop)
        self._unsent = 0
        self._wants_logprobs = waiting.sampling.logprobs is not None

    def fail(self, error: MLLMEraserError) -> None:
        """End with an error."""
        if self.ended is None:
            self.ended = "failed"
            self.ticket.fail(error)

    def fit(self, length: int, context: int | None) -> bool:
        """Limit the answer to what the model's context leaves beside a prompt of `length` tokens; False if nothing."""
        self.waiting.ticket.prompt_tokens = length
        if context is None:
            return True
        self.limit = min(self.limit, context - length)
        if self.limit < 1:
            self.fail(InputError(f"the prompt has {length} tokens, the model reads {context - 1}: make it shorter"))
        return self.limit >= 1

    def look(self) -> None:
        """End it if nobody waits for it any more."""
        if self.ended is None and self.ticket.cancelled:
            self._end("cancelled", Said("", ()))
        elif self.ended is None and self.waiting.deadline <= time.monotonic():
            self.fail(TimedOut("the deadline passed before the answer was complete"))

    def add(self, token: int, ends: bool, logprob: TokenLogprob | None) -> None:
        """Account for one token; `ends`: it is the end token."""
        if ends:
            self._end("stop", self._stream.end())
            return
        self.said += 1
        self._unsent += 1
        said = self._stream.add(token, logprob)
        if said.stopped:
            self._end("stop", said)
        elif self.said >= self.limit:
            rest = self._stream.end()
            whole = Said(said.text + rest.text, said.logprobs + rest.logprobs)
            self._end("stop" if rest.stopped else "length", whole)
        elif said.text:
            self._push(said, None)

    def _end(self, finish: Finish, said: Said) -> None:
        self.ended = finish
        self._push(said, finish)

    def _push(self, said: Said, finish: Finish | None) -> None:
        logprobs = said.logprobs if self._wants_logprobs else None
        self.ticket.push(Piece(said.text, logprobs, finish, self._unsent))
        self._unsent = 0


def note_readings(rows: Sequence[Row], readings: Readings) -> None:
    """Tell every row what its gates said; one whose gate cannot be read gets no answer."""
    finite = readings.pooled.isfinite().tolist()
    for number, row in enumerate(rows):
        row.ticket.read(readings, number)
        if not all(good for name, good in zip(readings.names, finite[number], strict=True) if name in row.names):
            row.fail(EngineError("an eraser could not read this prompt: there is no answer to it"))
