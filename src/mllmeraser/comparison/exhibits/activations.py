"""States before and after steering in the plane of largest variance, with distances beside the picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import Activations, Cell
from mllmeraser.comparison.exhibits.files import figure, panel_title, write_data
from mllmeraser.comparison.results import Run

COLOURS = {"forget": "#b4552d", "retain": "#3f6fb0"}
PAIRS = (
    ("forget, before / forget, after", "forget moved"),
    ("retain, before / retain, after", "retain moved"),
    ("forget, before / retain, before", "forget from retain, before"),
    ("forget, after / retain, after", "forget from retain, after"),
)
CELL = ("model", "split", "label", "fold", "seed", "layer")
POINTS = (*CELL, "group", "set", "when", "x", "y")
NUMBERS = (*CELL, "variance_axis_1", "variance_axis_2", "pair", "energy", "energy_share", "wasserstein_axis_1")


def activations(run: Run, folder: Path) -> list[Path]:
    """`activations.csv` (points), `activations-numbers.csv` (distances), `.svg` and `.pdf`.

    The figure shows the first fold and seed of each row; the data hold all of them.
    """
    cells = [(cell, cell.activations) for cell in run.cells if cell.status == "done" and cell.activations is not None]
    rows = {
        "activations.csv": ([row for cell in cells for row in _points(*cell)], POINTS),
        "activations-numbers.csv": ([row for cell in cells for row in _numbers(*cell)], NUMBERS),
    }
    files = [write_data(folder / name, found, columns) for name, (found, columns) in rows.items()]
    first: dict[tuple[str, str], dict[str, Activations]] = {}
    for cell, states in cells:
        first.setdefault((cell.model, cell.split), {}).setdefault(cell.label, states)
    if not first:
        return files
    wide = max(map(len, first.values()))
    with figure(folder / "activations", (4.4 * wide, 5.2 * len(first))) as (drawn, written):
        grid = drawn.subplots(len(first), wide, squeeze=False)
        for row, (place, by_label) in zip(grid, first.items(), strict=True):
            for panel in row[len(by_label) :]:
                panel.set_axis_off()
            for panel, (label, states) in zip(row, by_label.items(), strict=False):
                _panel(panel, states)
                panel.set_title(f"{panel_title(*place)}\n{label}, after block {states.layer + 1}")
        handles, labels = grid[0][0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=4)
    return [*files, *written]


def _about(cell: Cell, states: Activations) -> list[Any]:
    return [cell.model, cell.split, cell.label, cell.fold, cell.seed, states.layer]


def _points(cell: Cell, states: Activations) -> Iterable[dict[str, Any]]:
    for group, cloud in states.groups.items():
        for when, places in (("before", cloud.before), ("after", cloud.after)):
            for place in places:
                yield dict(zip(POINTS, (*_about(cell, states), group, cloud.set, when, *place), strict=True))


def _numbers(cell: Cell, states: Activations) -> Iterable[dict[str, Any]]:
    for pair, values in states.distances.items():
        row = (*_about(cell, states), *states.variance, pair, *(values[name] for name in NUMBERS[-3:]))
        yield dict(zip(NUMBERS, row, strict=True))


def _panel(panel: Any, states: Activations) -> None:
    for group, cloud in states.groups.items():
        colour = COLOURS[group]
        for when, places, style in (
            ("before", cloud.before, {"facecolors": "none", "edgecolors": colour, "linewidths": 0.7}),
            ("after", cloud.after, {"color": colour, "alpha": 0.55, "linewidths": 0}),
        ):
            panel.scatter(*zip(*places, strict=True), s=14, label=f"{group}, {when}", **style)
    one, two = states.variance
    lines = [f"{title}: {states.distances[p]['energy_share']:.3f}" for p, title in PAIRS if p in states.distances]
    below = "\n".join(["energy distance (0 the same, 1 apart)", *lines])
    panel.set_xlabel(f"axis 1 ({100 * one:.0f} % of the variance)\n\n{below}")
    panel.set_ylabel(f"axis 2 ({100 * two:.0f} %)")
