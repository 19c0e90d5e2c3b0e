"""One batch, from the queue to the last token."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from transformers import BatchFeature

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.engine.attached import InForce
from mllmeraser.serving.engine.decoding import Decoding, decode
from mllmeraser.serving.engine.encoding import encode_rows
from mllmeraser.serving.engine.errors import EngineError, TimedOut
from mllmeraser.serving.engine.logprobs import TokenNames
from mllmeraser.serving.engine.report import BatchReport, end_counts, fired_counts
from mllmeraser.serving.engine.rows import Row, note_readings
from mllmeraser.serving.engine.tickets import Waiting


class Batch:
    """Requests answered together under one set of erasers."""

    def __init__(
        self,
        model: MultimodalModel,
        force: InForce,
        names: TokenNames,
        requests: Sequence[Waiting],
        step: Callable[[Sequence[Row]], None],
    ) -> None:
        """Take `requests` for what is in force; `step` is called before every token."""
        self._model, self._force, self._names, self._step = model, force, names, step
        self._began = time.monotonic()
        self._prompt_seconds: float | None = None
        self._fired: Counter[str] = Counter()
        self._requests = tuple(requests)
        self.rows: list[Row] = []

    def run(self) -> None:
        """Answer all requests; those that cannot be read fail by themselves.

        The erasers of each are chosen here: no later set can come between the choice and the answer.

        Raises:
            AttachError: If the erasers do not act.
        """
        begun = [self._begin(request) for request in self._requests]
        self.rows = [row for row in begun if row is not None]
        for rows in self._together():
            self._run(rows)
        for row in self.rows:
            row.fail(EngineError("the answer ended before its time"))  # does nothing to a row that ended

    def _begin(self, request: Waiting) -> Row | None:
        """The row of a request, or None if it has ended before it began."""
        ticket, applied = request.ticket, self._force.applied
        if request.deadline <= self._began:
            ticket.fail(TimedOut("the deadline passed while the request was waiting"))
            return None
        try:
            names = frozenset(request.choose(self._force.view))
        except MLLMEraserError as error:
            ticket.fail(error)
            return None
        except Exception as error:
            ticket.fail(EngineError(f"the erasers of this request could not be chosen ({type(error).__name__})"))
            return None
        if not names <= set(applied.names):
            ticket.fail(EngineError("an eraser that this request needs is not in force: there is no answer to it"))
            return None
        return Row(request, names, self._model) if ticket.begin(applied.version, names) else None

    def _together(self) -> list[list[Row]]:
        """Rows that one pass can carry: some families take text alone apart from pictures."""
        if self._model.family.mixes:
            return [self.rows]
        return [[row for row in self.rows if (row.waiting.prompt.image is None) == plain] for plain in (True, False)]

    def _look(self) -> None:
        """Before every token; also at rows whose turn in this batch is yet to come."""
        self._step(self.rows)
        for row in self.rows:
            row.look()

    def _run(self, rows: list[Row]) -> None:
        rows, inputs = encode_rows(self._model, [row for row in rows if row.ended is None])
        if inputs is None or self._answered(rows, inputs):
            return
        torch.cuda.empty_cache()
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            self._run(half)

    def _answered(self, rows: list[Row], inputs: BatchFeature) -> bool:
        """Whether there was memory for all rows; False only if nothing was said yet and fewer may fit."""
        force = self._force
        force.select([row.names for row in rows])
        before = force.readings

        def prompt_read() -> None:
            if self._prompt_seconds is None:
                self._prompt_seconds = time.monotonic() - self._began
            readings = force.fresh_readings(before, len(rows))
            if readings is not None:
                note_readings(rows, readings)
                self._fired.update(fired_counts(readings))

        decoding = Decoding(self._model, rows, self._names, prompt_read, self._look)
        try:
            decode(self._model, inputs, decoding)
        except torch.cuda.OutOfMemoryError:
            if len(rows) == 1 or any(row.said for row in rows):
                raise
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """End every request that has not ended."""
        for row in self.rows:
            row.fail(EngineError(f"the answer could not be made ({type(error).__name__})"))
        for request in self._requests:
            request.ticket.fail(EngineError(f"the answer could not be made ({type(error).__name__})"))

    def report(self, queued: int) -> BatchReport:
        """What it was like."""
        return BatchReport(
            version=self._force.applied.version,
            erasers=len(self._force.applied.names),
            rows=len(self._requests),
            tokens=sum(row.said for row in self.rows),
            seconds=time.monotonic() - self._began,
            prompt_seconds=self._prompt_seconds,
            waited=tuple(self._began - request.since for request in self._requests),
            contexts=tuple(request.context for request in self._requests),
            fired=self._fired,
            ends=end_counts(self.rows, len(self._requests)),
            queued=queued,
        )
