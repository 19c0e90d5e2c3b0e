"""What each row costs: time to make it, time per answer while it is on, and its size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.exhibits.files import figure, panel_title, row_colours, write_data
from mllmeraser.comparison.results import Run

COLUMNS = ("model", "split", "label", "cells", "making_seconds", "making_min", "making_max", "answer_seconds",
           "answer_min", "answer_max", "product_bytes")  # fmt: skip


def time(run: Run, folder: Path) -> list[Path]:
    """`time.csv`, `.svg`, `.pdf`: means over folds and seeds, with the least and the most.

    Times do not depend on what was memorised, so rows are shown whose scores are refused.
    """
    rows = [row for place in run.places for row in _data(run, *place)]
    data = write_data(folder / "time.csv", rows or [dict.fromkeys(COLUMNS)])
    if not rows:
        return [data]
    places = [place for place in run.places if any((row["model"], row["split"]) == place for row in rows)]
    height, colours = 0.9 + 0.28 * len(run.labels), row_colours(run)
    with figure(folder / "time", (9, max(2.2, height * len(places)))) as (drawn, written):
        grid = drawn.subplots(len(places), 2, squeeze=False)
        for place, (left, right) in zip(places, grid, strict=True):
            here = [row for row in rows if (row["model"], row["split"]) == place][::-1]
            _panel(left, here, "making", colours, 1.0)
            _panel(right, here, "answer", colours, 1000.0)
            left.set_title(panel_title(*place))
        grid[-1][0].set_xlabel("making (s, logarithmic)")
        grid[-1][1].set_xlabel("answering (ms per answer)")
        for left, right in grid:
            right.tick_params(labelleft=False)
            if left.patches:
                left.set_xscale("log")
    return [data, *written]


def _data(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    rows = []
    for label in run.labels:
        cells = [c for c in run.cells if (c.model, c.split, c.label, c.status) == (model, split, label, "done")]
        if cells:
            making = [cell.making_seconds for cell in cells if cell.making_seconds is not None]
            answering = [seconds for cell in cells if (seconds := cell.per_answer) is not None]
            about = {"model": model, "split": split, "label": label, "cells": len(cells)}
            rows.append({**about, **_three("making", making), **_three("answer", answering), **_size(cells)})
    return rows


def _three(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    values = (mean(seconds), min(seconds), max(seconds)) if seconds else (None, None, None)
    return dict(zip((f"{name}_seconds", f"{name}_min", f"{name}_max"), values, strict=True))


def _size(cells: Sequence[Cell]) -> dict[str, float | None]:
    sizes = [cell.product_bytes for cell in cells if cell.product_bytes is not None]
    return {"product_bytes": round(mean(sizes)) if sizes else None}


def _panel(panel: Any, rows: Sequence[dict[str, Any]], name: str, colours: dict[str, str], unit: float) -> None:
    for place, row in enumerate(rows):
        value = row[f"{name}_seconds"]
        if value is None:
            panel.annotate("–", (0.01, place), xycoords=("axes fraction", "data"), va="center", color="#5d646d")
            continue
        spread = [[unit * (value - row[f"{name}_min"])], [unit * (row[f"{name}_max"] - value)]]
        panel.barh(place, unit * value, xerr=spread, color=colours[row["label"]], height=0.66, ecolor="#22262b")
    panel.set_yticks(range(len(rows)), [row["label"] for row in rows])
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.tick_params(axis="y", length=0)
