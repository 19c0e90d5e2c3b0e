"""One row of a batch: its growing answer, and its end."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from mllmeraser.erasure.steering import Readings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.serving.engine.errors import EngineError, TimedOut
from mllmeraser.serving.engine.logprobs import TokenLogprob
from mllmeraser.serving.engine.sampling import Draw
from mllmeraser.serving.engine.text import Chunk, TextStream
from mllmeraser.serving.engine.tickets import Finish, Piece, Waiting


class Row:
    """A request in the running batch.

    Attributes:
        names: Erasers that apply to it.
        limit: Longest answer in tokens; `fit` lowers it.
        draw: Random choices of this row; None for the most likely token.
        tokens: Number of tokens decoded.
        ended: Reason of the end, or `"failed"`; None while the row runs.
    """

    def __init__(self, waiting: Waiting, names: frozenset[str], model: MultimodalModel) -> None:
        """Begin with an empty answer."""
        self.waiting, self.names, self.ticket = waiting, names, waiting.ticket
        self.limit = waiting.sampling.max_tokens
        self.draw = Draw(waiting.sampling) if waiting.sampling.temperature > 0.0 else None
        self.tokens = 0
        self.ended: Finish | str | None = None
        self._stream = TextStream(model.processor.tokenizer, waiting.sampling.stop)
        self._unsent = 0
        self._wants_logprobs = waiting.sampling.logprobs is not None

    def fail(self, error: MLLMEraserError) -> None:
        """End the row with an error, unless it has ended."""
        if self.ended is None:
            self.ended = "failed"
            self.ticket.fail(error)

    def fit(self, length: int, context: int | None) -> bool:
        """Limit the answer to the context left by a prompt of `length` tokens; False if nothing is left."""
        self.ticket.prompt_tokens = length
        if context is None:
            return True
        self.limit = min(self.limit, context - length)
        if self.limit < 1:
            self.fail(too_long(length, context))
        return self.limit >= 1

    def expire(self) -> None:
        """End a row that was cancelled or is past its deadline."""
        if self.ended is None and self.ticket.cancelled:
            self._end("cancelled", Chunk("", ()))
        elif self.ended is None and self.waiting.deadline <= time.monotonic():
            self.fail(TimedOut("the deadline passed before the answer was complete"))

    def add(self, token: int, ends: bool, logprob: TokenLogprob | None) -> None:
        """Add one token; `ends` marks the end token."""
        if ends:
            self._end("stop", self._stream.end())
            return
        self.tokens += 1
        self._unsent += 1
        chunk = self._stream.add(token, logprob)
        if chunk.stopped:
            self._end("stop", chunk)
        elif self.tokens >= self.limit:
            rest = self._stream.end()
            whole = Chunk(chunk.text + rest.text, chunk.logprobs + rest.logprobs)
            self._end("stop" if rest.stopped else "length", whole)
        elif chunk.text:
            self._push(chunk, None)

    def _end(self, finish: Finish, chunk: Chunk) -> None:
        self.ended = finish
        self._push(chunk, finish)

    def _push(self, chunk: Chunk, finish: Finish | None) -> None:
        logprobs = chunk.logprobs if self._wants_logprobs else None
        self.ticket.push(Piece(chunk.text, logprobs, finish, self._unsent))
        self._unsent = 0


def too_long(length: int, context: int) -> InputError:
    """Return the error for a prompt that leaves no room for an answer."""
    return InputError(f"the prompt has {length} tokens, the model reads {context - 1}: make it shorter")


def note_readings(rows: Sequence[Row], readings: Readings) -> None:
    """Record the gate readings on every row; a row with a non-finite score gets no answer."""
    readable = (readings.pooled < torch.inf).tolist()  # false for NaN; -inf: a prompt with nothing to read
    for number, row in enumerate(rows):
        row.ticket.readings = (readings, number)
        if not all(good for name, good in zip(readings.names, readable[number], strict=True) if name in row.names):
            row.fail(EngineError("an eraser could not read this prompt: there is no answer to it"))
