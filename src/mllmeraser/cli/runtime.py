"""What every command does first and last: quiet libraries, set threads, show progress, print results."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 10_000
LINE_SECONDS = 30.0

if TYPE_CHECKING:
    from mllmeraser.samples.progress import Progress


def prepare(model: str, threads: int | None, seed: int) -> None:
    """Silence the libraries, unless their own environment variables say otherwise. Set threads and seed."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import warnings

    if not sys.warnoptions:
        from mllmeraser.samples.errors import InputWarning

        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=InputWarning)

    import logging as standard

    from transformers.utils import logging

    standard.getLogger("huggingface_hub").setLevel(standard.ERROR)
    logging.disable_progress_bar()

    from mllmeraser import api

    api.set_threads(model, threads)
    api.set_seed(seed)


@contextmanager
def progress_bar(*, show: bool = True) -> Iterator[Progress | None]:
    """Show a bar per stage on standard error, or lines if that is no terminal; None if `show` is off."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not show:
        yield None
        return
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


class _Lines:
    """Progress for a log: one line when a stage ends, and one each half minute."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        due = self._next.setdefault(stage, now + LINE_SECONDS)
        if done >= total and due != math.inf:
            self._next[stage] = math.inf
            note(f"{stage}: {total} done")
        elif now >= due:
            self._next[stage] = now + LINE_SECONDS
            note(f"{stage}: {done} of {total}")


def note(message: str) -> None:
    """Print one line on standard error."""
    print(message, file=sys.stderr)


def show_result(value: Any, as_json: bool, text: str | Table) -> None:
    """Print a result on standard output: `value` as indented JSON, or `text`."""
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    elif isinstance(text, str):
        print(text)
    else:
        console = Console()
        # A pipe has no width: a program or a file gets whole lines.
        (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(text)
