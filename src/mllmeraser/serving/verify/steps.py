"""Prompts counted, for whoever watches."""

from __future__ import annotations

from mllmeraser.samples.progress import Progress


class Steps:
    """Counts the prompts of one stage and tells a `Progress`, if there is one."""

    def __init__(self, progress: Progress | None, stage: str, total: int) -> None:
        """None of `total` prompts is done."""
        self._progress, self._stage = progress, stage
        self._done, self._total = 0, total

    def add(self, n: int) -> None:
        """`n` more are done."""
        self._done += n
        if self._progress is not None:
            self._progress(self._stage, self._done, self._total)
