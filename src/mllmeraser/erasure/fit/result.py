"""The result of a fit, and the clock of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.fit.split import DataSplit
from mllmeraser.erasure.states.statistics import Statistics

COUNTS_NOT = (
    "(first, last, lower case, joined) do not count: somebody who stays has them, other words are too like, or they are"
    " too many"
)


@dataclass(frozen=True)
class FitResult:
    """An eraser, and what its fit leaves beside it. `keys` and `salt` are not part of the artifact.

    Attributes:
        statistics: Sums from which gates and directions can be made again, with or without a subject.
        timings: Seconds per stage: capture, linear_algebra, calibration.
        keys: The request's subject keys -> the opaque keys in the artifact.
        salt: Of the opaque keys and the data digests.
        unused_forms: Forms of names that do not count, and all of them.
    """

    eraser: Eraser
    statistics: Statistics
    timings: dict[str, float]
    keys: dict[str, str] = field(default_factory=dict)
    salt: str = ""
    parts: DataSplit | None = None
    unused_forms: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """Add the total to the timings."""
        self.timings["total"] = sum(seconds for stage, seconds in self.timings.items() if stage != "total")

    @property
    def notes(self) -> list[str]:
        """Lines that a person should read: forms of names that do not count, a promise above what was asked."""
        unused, forms = self.unused_forms
        lines = [f"{unused} of {forms} forms of the names {COUNTS_NOT}"] if unused else []
        rates = self.eraser.config.calibration
        asked, promised = rates.false_alarm_rate_asked, rates.false_alarm_rate_promised
        if asked is None or promised is None or promised <= asked:
            return lines
        return [
            *lines,
            f"the thresholds keep to a false-alarm rate of {promised:.3g}, above the {asked:.3g} that was asked: "
            "give more retain prompts, or forget fewer subjects per eraser",
        ]


@contextmanager
def timed(clock: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds of the block to a stage."""
    start = time.perf_counter()
    yield
    clock[stage] = clock.get(stage, 0.0) + time.perf_counter() - start
