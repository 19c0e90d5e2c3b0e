"""How long work tells where it stands."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the name of the stage, the steps done and the steps in all; must be cheap.

    A function that takes `progress: Progress | None = None` calls it at least once at the end of its stage.
    """

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` steps of `stage` are done."""
        ...
