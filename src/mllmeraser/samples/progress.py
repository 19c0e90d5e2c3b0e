"""Progress reports of long work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Count = Callable[[int], None]
"""Called with the number of steps done since the last call; must be cheap."""


class Progress(Protocol):
    """Called with the name of the stage, the steps done and all steps; must be cheap.

    A function that takes `progress: Progress | None = None` calls it at least once at the end of its stage.
    """

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` steps of `stage` are done."""
        ...


def counting(progress: Progress | None, stage: str, total: int) -> Count:
    """Return a `Count` that reports the sum of its steps to `progress`."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(stage, done, total)

    return count
