"""What all exhibits share: data as CSV, figures as SVG and PDF, colours."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.results import Run
from mllmeraser.comparison.rows import OURS
from mllmeraser.samples.files import write_whole

STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "mllmeraser",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
PALETTE = ("#3f6fb0", "#b4552d", "#1f7869", "#7a5ea8", "#b08a10", "#5d646d", "#c2577f", "#4a9fb5", "#8a9a3b", "#9c6b4e")
OUTCOME_COLOURS = {
    "recalled": "#3f6fb0",
    "unknown": "#1f7869",
    "refused": "#7fae98",
    "wrong": "#9a9fa8",
    "other-person": "#b06a10",
    "gibberish": "#b8402f",
}
OURS_COLOUR, GREY = "#b4552d", "#5d646d"
MORE_COLOURS = ("#2f3b52", "#6fb7d6", "#c9a4d6", "#7a5b12", "#d98ba0", "#4d7f2a", "#a9b0b8", "#0f4f73")
"""For comparisons of more rows than the palette has colours."""


def cells_of(run: Run, model: str, split: str, label: str) -> list[Cell]:
    """Cells of one row on one model and split whose scores mean something."""
    return [cell for cell in run.scored if (cell.model, cell.split, cell.label) == (model, split, label)]


def row_colours(run: Run) -> dict[str, str]:
    """A colour for each row: one for all presets of ours, so that it stands out."""
    methods = {cell.label: cell.method for cell in run.cells}
    others = [label for label, method in methods.items() if method != OURS]
    free = [colour for colour in (*PALETTE, *MORE_COLOURS) if colour != OURS_COLOUR]
    colours = {label: free[number % len(free)] for number, label in enumerate(others)}
    return {label: colours.get(label, OURS_COLOUR) for label in methods}


def panel_title(model: str, split: str) -> str:
    """What a panel is about."""
    return f"{Path(model).name if '/' in model else model}, {split}"


def write_data(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as CSV; all have the keys of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    write_whole(path, text.getvalue(), force=True)
    return path


def _plain(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


@contextmanager
def figure(path: Path, size: tuple[float, float]) -> Iterator[tuple[Figure, list[Path]]]:
    """A figure in the style of all exhibits; at the end it is written as `path`.svg and `path`.pdf."""
    written: list[Path] = []
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=size, layout="constrained")
        yield drawn, written
        FigureCanvasPdf(drawn)
        for suffix, metadata in ((".svg", {"Date": None}), (".pdf", {"CreationDate": None})):
            target = path.with_name(path.name + suffix)
            beside = target.with_name("." + target.name)
            drawn.savefig(beside, format=suffix[1:], metadata=metadata)
            beside.replace(target)
            written.append(target)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
