"""What every command does first and last: quiet libraries, threads, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mllmeraser.samples.progress import Progress


def prepare(model: str, threads: int | None, seed: int) -> None:
    """Silence the libraries' chatter (unless asked for by their own variables), set threads and seed."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")

    from transformers.utils import logging

    logging.disable_progress_bar()

    from mllmeraser import api

    api.set_threads(model, threads)
    api.set_seed(seed)


@contextmanager
def progress_bar(*, show: bool = True) -> Iterator[Progress | None]:
    """A bar per stage on standard error; None when `show` is off or nobody is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not show or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def note(message: str) -> None:
    """One line for the person at the terminal, on standard error."""
    print(message, file=sys.stderr)


def print_json(value: Any) -> None:
    """`value` as indented JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
