"""What a fit gives, and the clock of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.fit.split import DataSplit
from mllmeraser.erasure.states.statistics import Statistics


@dataclass(frozen=True)
class FitResult:
    """What a fit gives.

    Attributes:
        eraser: The artifact.
        statistics: MomentAccumulator from which gates and directions can be made again, with or without a subject.
        timings: Seconds per stage: capture, linear_algebra, calibration, total.
        keys: The request's subject keys -> the opaque keys in the artifact. Not part of the artifact.
        salt: What the opaque keys and the data digests were made with. Not part of the artifact.
        parts: How the request was split.
    """

    eraser: Eraser
    statistics: Statistics
    timings: dict[str, float]
    keys: dict[str, str] = field(default_factory=dict)
    salt: str = ""
    parts: DataSplit | None = None


@contextmanager
def timed(clock: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to a stage."""
    start = time.perf_counter()
    yield
    clock[stage] = clock.get(stage, 0.0) + time.perf_counter() - start
