"""What the engine tells about itself: of every batch, and when it is asked. Nothing of prompts or answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass

from mllmeraser.erasure.steering.attach import Readings
from mllmeraser.serving.engine.attached import Applied
from mllmeraser.serving.engine.rows import Row


@dataclass(frozen=True)
class BatchReport:
    """One batch.

    Attributes:
        version: Of the set of erasers in force.
        erasers: How many are in it.
        rows: Requests in it.
        tokens: Tokens decoded for all of them.
        seconds: From taking it from the queue to its end.
        prompt_seconds: Until the prompts were read; None if they were not.
        waited: Seconds that each request was in the queue.
        contexts: In which each request was submitted.
        fired: Eraser -> number of prompts that it fired on; those that fired on none are left out.
        ends: Why answers ended (`"stop"`, `"length"`, `"cancelled"`, `"failed"`) -> how many.
        queued: Requests that wait at its end.
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


@dataclass(frozen=True)
class EngineStatus:
    """The engine as it is.

    Attributes:
        applied: What is in force; None while nothing is.
        closed: Why nothing is answered; None while requests are. For operators: it may name erasers.
        queued: Requests that wait.
        running: Requests that are being answered.
    """

    applied: Applied | None
    closed: str | None
    queued: int
    running: int


def fired_counts(readings: Readings | None) -> dict[str, int]:
    """Eraser -> number of rows whose prompt it fired on."""
    if readings is None:
        return {}
    counts = (readings.amplitudes != 0).sum(0).tolist()
    return {name: count for name, count in zip(readings.names, counts, strict=True) if count}


def end_counts(rows: Sequence[Row], requests: int) -> dict[str, int]:
    """Why answers ended -> how many of `requests`; one that became no row has failed."""
    counts = Counter(row.ended or "failed" for row in rows)
    counts["failed"] += requests - len(rows)
    return {reason: count for reason, count in counts.items() if count}
