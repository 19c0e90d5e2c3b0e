"""Shared by all exhibits: data as CSV, figures as SVG and PDF, colours."""

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

from mllmeraser.comparison.recipe import OURS
from mllmeraser.comparison.results import Run
from mllmeraser.samples.files import whole_file, write_whole

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
"""For comparisons with more rows than the palette has colours."""


def row_colours(run: Run) -> dict[str, str]:
    """A colour for each row; all presets of ours have one colour, which no other row has."""
    methods = {cell.label: cell.method for cell in run.cells}
    others = [label for label, method in methods.items() if method != OURS]
    free = [colour for colour in (*PALETTE, *MORE_COLOURS) if colour != OURS_COLOUR]
    colours = {label: free[number % len(free)] for number, label in enumerate(others)}
    return {label: colours.get(label, OURS_COLOUR) for label in methods}


def panel_title(model: str, split: str) -> str:
    """Title of a panel."""
    return f"{Path(model).name if '/' in model else model}, {split}"


def write_data(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Path:
    """Rows as CSV; without rows, one empty row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows or [dict.fromkeys(columns)]:
        writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()})
    write_whole(path, text.getvalue(), force=True)
    return path


@contextmanager
def figure(path: Path, size: tuple[float, float]) -> Iterator[tuple[Figure, list[Path]]]:
    """A figure in the style of all exhibits, written at the end as `path`.svg and `path`.pdf."""
    written: list[Path] = []
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=size, layout="constrained")
        yield drawn, written
        FigureCanvasPdf(drawn)
        for suffix, metadata in ((".svg", {"Date": None}), (".pdf", {"CreationDate": None})):
            target = path.with_name(path.name + suffix)
            with whole_file(target, force=True) as beside:
                drawn.savefig(beside, format=suffix[1:], metadata=metadata)
            written.append(target)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
