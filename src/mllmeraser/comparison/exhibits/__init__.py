"""The exhibits: tables and figures made from the files of a comparison, each with its data beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mllmeraser.comparison.exhibits.activations import activations
from mllmeraser.comparison.exhibits.main_table import main_table
from mllmeraser.comparison.exhibits.outcomes import outcomes
from mllmeraser.comparison.exhibits.time import time
from mllmeraser.comparison.exhibits.trade_off import trade_off
from mllmeraser.comparison.results import Run
from mllmeraser.samples.errors import InputError

__all__ = ["EXHIBITS", "activations", "draw", "main_table", "outcomes", "time", "trade_off"]

EXHIBITS: dict[str, Callable[[Run, Path], list[Path]]] = {
    "main-table": main_table,
    "trade-off": trade_off,
    "outcomes": outcomes,
    "time": time,
    "activations": activations,
}
"""By name; each writes its files into a folder and returns them, or nothing where there is nothing to show."""


def draw(name: str, run: Run, folder: Path) -> list[Path]:
    """Write one exhibit.

    Raises:
        InputError: There is none of that name.
    """
    if name not in EXHIBITS:
        raise InputError(f"unknown exhibit {name!r}: there are {', '.join(EXHIBITS)}")
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".csv", ".md", ".svg", ".pdf"):  # of an earlier run, which may have had more to show
        (folder / (name + suffix)).unlink(missing_ok=True)
    return EXHIBITS[name](run, folder)
