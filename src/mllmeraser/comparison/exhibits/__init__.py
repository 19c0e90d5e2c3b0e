"""The exhibits: tables and figures made from the files of a comparison, each with its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mllmeraser.comparison.exhibits.activations import activations
from mllmeraser.comparison.exhibits.bars import outcomes, time
from mllmeraser.comparison.exhibits.main_table import main_table
from mllmeraser.comparison.exhibits.trade_off import trade_off
from mllmeraser.comparison.results import Run
from mllmeraser.samples import InputError

EXHIBITS: dict[str, Callable[[Run, Path], list[Path]]] = {
    "main-table": main_table,
    "trade-off": trade_off,
    "outcomes": outcomes,
    "time": time,
    "activations": activations,
}
"""By name; each writes its files into a folder and returns them."""


def draw(name: str, run: Run, folder: Path) -> list[Path]:
    """Write one exhibit; an InputError if there is none of that name."""
    if name not in EXHIBITS:
        raise InputError(f"unknown exhibit {name!r}: there are {', '.join(EXHIBITS)}")
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".csv", ".md", ".svg", ".pdf"):  # of an earlier run, which may have had more to show
        (folder / (name + suffix)).unlink(missing_ok=True)
    return EXHIBITS[name](run, folder)
