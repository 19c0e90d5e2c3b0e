"""Bar charts: outcomes of the answers about forgotten people, and costs of each row.

Outcomes separate a collapse (gibberish) from forgetting. Costs are the time to make a product, the time per answer
while it is attached, and its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.exhibits.files import OUTCOME_COLOURS, figure, panel_title, row_colours, write_data
from mllmeraser.comparison.results import Run
from mllmeraser.evaluation import OUTCOMES

SETS = ("forget", "test")
OUTCOME_COLUMNS = ("model", "split", "label", "set", "task", "modality", "n", *OUTCOMES)
TIME_COLUMNS = ("model", "split", "label", "cells", "making_seconds", "making_min", "making_max", "answer_seconds",
           "answer_min", "answer_max", "product_bytes")  # fmt: skip


def outcomes(run: Run, folder: Path) -> list[Path]:
    """`outcomes.csv` (counts by task), `.svg` and `.pdf` (shares over all tasks) of the answers about the forgotten."""
    places = [place for place in run.places if any(run.scored_cells(*place, label) for label in run.labels)]
    rows = [row for place in places for row in _outcome_rows(run, *place)]
    data = write_data(folder / "outcomes.csv", rows, OUTCOME_COLUMNS)
    if not rows:
        return [data]
    height = 0.9 + 0.3 * len(run.labels)
    with figure(folder / "outcomes", (8.5, max(2.2, height * len(places)))) as (drawn, written):
        panels = drawn.subplots(len(places), 1, squeeze=False)[:, 0]
        for place, panel in zip(places, panels, strict=True):
            _outcome_bars(panel, {label: share_of(run.scored_cells(*place, label)) for label in run.labels})
            panel.set_title(panel_title(*place))
        panels[-1].set_xlabel("answers about the forgotten people (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside right upper")
    return [data, *written]


def share_of(cells: Sequence[Cell]) -> dict[str, float]:
    """Outcome -> share of the answers about the forgotten, all folds, seeds and tasks together."""
    counts = Counter(item["outcome"] for cell in cells for item in cell.answers if item["set"] in SETS)
    total = sum(counts.values())
    return {name: counts[name] / total for name in OUTCOMES} if total else {}


def _outcome_rows(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    rows = []
    for label in run.labels:
        counts: dict[tuple[str, str, str], Counter[str]] = {}
        for cell in run.scored_cells(model, split, label):
            for item in cell.answers:
                if item["set"] in SETS:
                    counts.setdefault((item["set"], item["task"], item["modality"]), Counter())[item["outcome"]] += 1
        for key, own in sorted(counts.items()):
            row = (model, split, label, *key, sum(own.values()), *(own[outcome] for outcome in OUTCOMES))
            rows.append(dict(zip(OUTCOME_COLUMNS, row, strict=True)))
    return rows


def _outcome_bars(panel: Any, bars: dict[str, dict[str, float]]) -> None:
    labels = [label for label, shares in bars.items() if shares][::-1]
    left = [0.0] * len(labels)
    for name, colour in OUTCOME_COLOURS.items():
        widths = [100 * bars[label][name] for label in labels]
        panel.barh(labels, widths, left=left, color=colour, label=name, height=0.72)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    panel.set_xlim(0, 100)
    panel.tick_params(axis="y", length=0)


def time(run: Run, folder: Path) -> list[Path]:
    """`time.csv`, `.svg`, `.pdf`: means over folds and seeds, with the least and the most.

    Rows with refused scores are included, for times do not depend on memorisation.
    """
    rows = [row for place in run.places for row in _time_rows(run, *place)]
    data = write_data(folder / "time.csv", rows, TIME_COLUMNS)
    if not rows:
        return [data]
    places = [place for place in run.places if any((row["model"], row["split"]) == place for row in rows)]
    height, colours = 0.9 + 0.28 * len(run.labels), row_colours(run)
    with figure(folder / "time", (9, max(2.2, height * len(places)))) as (drawn, written):
        grid = drawn.subplots(len(places), 2, squeeze=False)
        for place, (left, right) in zip(places, grid, strict=True):
            here = [row for row in rows if (row["model"], row["split"]) == place][::-1]
            _time_bars(left, here, "making", colours, 1.0)
            _time_bars(right, here, "answer", colours, 1000.0)
            left.set_title(panel_title(*place))
        grid[-1][0].set_xlabel("making (s, logarithmic)")
        grid[-1][1].set_xlabel("answering (ms per answer)")
        for left, right in grid:
            right.tick_params(labelleft=False)
            if left.patches:
                left.set_xscale("log")
    return [data, *written]


def _time_rows(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    rows = []
    for label in run.labels:
        cells = [c for c in run.cells if (c.model, c.split, c.label, c.status) == (model, split, label, "done")]
        if cells:
            making = [cell.making_seconds for cell in cells if cell.making_seconds is not None]
            answering = [seconds for cell in cells if (seconds := cell.per_answer) is not None]
            sizes = [cell.product_bytes for cell in cells if cell.product_bytes is not None]
            size = round(mean(sizes)) if sizes else None
            row = (model, split, label, len(cells), *_three(making), *_three(answering), size)
            rows.append(dict(zip(TIME_COLUMNS, row, strict=True)))
    return rows


def _three(seconds: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    return (mean(seconds), min(seconds), max(seconds)) if seconds else (None, None, None)


def _time_bars(panel: Any, rows: Sequence[dict[str, Any]], name: str, colours: dict[str, str], unit: float) -> None:
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
