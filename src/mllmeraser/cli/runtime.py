"""What every command does first and last: quiet libraries, set threads, show progress, print results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

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

    from transformers.utils import logging

    logging.disable_progress_bar()

    from mllmeraser import api

    api.set_threads(model, threads)
    api.set_seed(seed)


@contextmanager
def progress_bar(*, show: bool = True) -> Iterator[Progress | None]:
    """Show a bar per stage on standard error; None if `show` is off or standard error is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not show or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


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
        Console().print(text)
