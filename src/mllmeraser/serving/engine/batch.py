"""One batch, from the queue to the last token."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass

import torch
from transformers import BatchFeature

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.engine.attached import InForce
from mllmeraser.serving.engine.decoding import Decoding, decode
from mllmeraser.serving.engine.encoding import encode_rows
from mllmeraser.serving.engine.errors import EngineError, TimedOut
from mllmeraser.serving.engine.logprobs import TokenNames
from mllmeraser.serving.engine.rows import Row, note_readings
from mllmeraser.serving.engine.tickets import Ticket, Waiting

Step = Callable[[Sequence[Row]], None]


@dataclass(frozen=True)
class BatchReport:
    """Measurements of one batch, with times in seconds; nothing of prompts or answers.

    Attributes:
        version: Version of the eraser set in force.
        erasers: Number of erasers in that set.
        prompt_seconds: Time until the prompts were read; None if they were not.
        waited: Time each request spent in the queue.
        contexts: Context in which each request was submitted.
        fired: Eraser -> number of prompts it fired on, without zeros.
        ends: Reason (`"stop"`, `"length"`, `"cancelled"`, `"failed"`) -> number of answers that ended so.
        queued: Requests in the queue when the batch ended.
    """

    version: int
    erasers: int
    rows: int
    tokens: int
    seconds: float
    prompt_seconds: float | None
    waited: tuple[float, ...]
    contexts: tuple[Context, ...]
    fired: Mapping[str, int]
    ends: Mapping[str, int]
    queued: int


class Batch:
    """Requests answered together under one set of erasers."""

    def __init__(
        self, model: MultimodalModel, force: InForce, names: TokenNames, requests: Sequence[Waiting], step: Step
    ) -> None:
        """Take `requests` under the erasers in `force`; `step` is called before every token."""
        self._model, self._force, self._names, self._step = model, force, names, step
        self._began = time.monotonic()
        self._prompt_seconds: float | None = None
        self._fired: Counter[str] = Counter()
        self._requests = tuple(requests)
        self.rows: list[Row] = []

    def run(self) -> None:
        """Answer all requests; an unreadable request fails alone.

        The erasers of each request are chosen here, so no newer set can come between choice and answer. Raises
        `AttachError` if the erasers do not act.
        """
        begun = [self._begin(request) for request in self._requests]
        self.rows = [row for row in begun if row is not None]
        for rows in self._passes():
            self._run(rows)
        for row in self.rows:
            row.fail(EngineError("the answer ended before its time"))  # no effect on a row that has ended

    def _begin(self, request: Waiting) -> Row | None:
        """Return the row of a request, or None if the request has ended."""
        ticket, applied = request.ticket, self._force.applied
        try:
            if request.deadline <= self._began:
                raise TimedOut("the deadline passed while the request was waiting")
            names = frozenset(request.choose(self._force.view))
            if not names <= set(applied.names):
                raise EngineError("an eraser that this request needs is not in force: there is no answer to it")
        except MLLMEraserError as error:
            ticket.fail(error)
            return None
        except Exception as error:
            ticket.fail(EngineError(f"the erasers of this request could not be chosen ({type(error).__name__})"))
            return None
        return Row(request, names, self._model) if ticket.begin(applied.version, names) else None

    def _passes(self) -> list[list[Row]]:
        """Split the rows into forward passes: some families cannot mix text-only rows with pictures."""
        if self._model.family.mixes:
            return [self.rows]
        return [[row for row in self.rows if (not row.waiting.prompt.images) == plain] for plain in (True, False)]

    def _before_token(self) -> None:
        """Check all rows of the batch, including those that a later pass will answer."""
        self._step(self.rows)
        for row in self.rows:
            row.expire()

    def _run(self, rows: list[Row]) -> None:
        rows, inputs = encode_rows(self._model, [row for row in rows if row.ended is None])
        if inputs is None or self._answered(rows, inputs):
            return
        torch.cuda.empty_cache()
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            self._run(half)

    def _answered(self, rows: list[Row], inputs: BatchFeature) -> bool:
        """Answer the rows; False if memory ran out before the first token and fewer rows may fit."""
        force = self._force
        force.select([row.names for row in rows])
        before = force.readings

        def prompt_read() -> None:
            if self._prompt_seconds is None:
                self._prompt_seconds = time.monotonic() - self._began
            readings = force.fresh_readings(before, len(rows))
            if readings is not None:
                note_readings(rows, readings)
                counts = (readings.amplitudes != 0).sum(0).tolist()
                self._fired.update({name: n for name, n in zip(readings.names, counts, strict=True) if n})

        decoding = Decoding(self._model, rows, self._names, prompt_read, self._before_token)
        try:
            decode(self._model, inputs, decoding)
        except torch.cuda.OutOfMemoryError:
            if len(rows) == 1 or any(row.tokens for row in rows):
                raise
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """End every request that has not ended."""
        unfinished: list[Row | Ticket] = [*self.rows, *(request.ticket for request in self._requests)]
        for one in unfinished:
            one.fail(EngineError(f"the answer could not be made ({type(error).__name__})"))

    def report(self, queued: int) -> BatchReport:
        """Summarize the batch; a request without a row counts as failed."""
        ends = Counter(row.ended or "failed" for row in self.rows)
        ends["failed"] += len(self._requests) - len(self.rows)
        return BatchReport(
            version=self._force.applied.version,
            erasers=len(self._force.applied.names),
            rows=len(self._requests),
            tokens=sum(row.tokens for row in self.rows),
            seconds=time.monotonic() - self._began,
            prompt_seconds=self._prompt_seconds,
            waited=tuple(self._began - request.since for request in self._requests),
            contexts=tuple(request.context for request in self._requests),
            fired=self._fired,
            ends=+ends,
            queued=queued,
        )
