"""How answers about the forgotten ended: a collapse shows as gibberish, not as forgetting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.exhibits.files import OUTCOME_COLOURS, cells_of, figure, panel_title, write_data
from mllmeraser.comparison.results import Run
from mllmeraser.evaluation.outcomes import OUTCOMES

SETS = ("forget", "test")


def outcomes(run: Run, folder: Path) -> list[Path]:
    """`outcomes.csv` (counts by task), `.svg` and `.pdf` (shares over all tasks) of the answers about the forgotten."""
    places = [place for place in run.places if any(cells_of(run, *place, label) for label in run.labels)]
    rows = [row for place in places for row in _data(run, *place)]
    names = ("model", "split", "label", "set", "task", "modality", "n", *OUTCOMES)
    data = write_data(folder / "outcomes.csv", rows or [dict.fromkeys(names)])
    if not rows:
        return [data]
    height = 0.9 + 0.3 * len(run.labels)
    with figure(folder / "outcomes", (8.5, max(2.2, height * len(places)))) as (drawn, written):
        panels = drawn.subplots(len(places), 1, squeeze=False)[:, 0]
        for place, panel in zip(places, panels, strict=True):
            _panel(panel, [(label, share_of(cells_of(run, *place, label))) for label in run.labels])
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


def _data(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    rows = []
    for label in run.labels:
        counts: dict[tuple[str, str, str], Counter[str]] = {}
        for cell in cells_of(run, model, split, label):
            for item in cell.answers:
                if item["set"] in SETS:
                    key = (item["set"], item["task"], item["modality"])
                    counts.setdefault(key, Counter())[item["outcome"]] += 1
        for (name, task, modality), found in sorted(counts.items()):
            about = {"model": model, "split": split, "label": label, "set": name, "task": task, "modality": modality}
            ended = {str(outcome): found[outcome] for outcome in OUTCOMES}
            rows.append({**about, "n": sum(found.values()), **ended})
    return rows


def _panel(panel: Any, bars: Sequence[tuple[str, dict[str, float]]]) -> None:
    shown = [(label, shares) for label, shares in bars if shares][::-1]
    left = [0.0] * len(shown)
    for name, colour in OUTCOME_COLOURS.items():
        widths = [100 * shares[name] for _, shares in shown]
        panel.barh([label for label, _ in shown], widths, left=left, color=colour, label=name, height=0.72)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    panel.set_xlim(0, 100)
    panel.tick_params(axis="y", length=0)
