"""States before and after steering in the plane in which they spread most, with distances beside the picture."""

from __future__ import annotations

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
POINTS = ("model", "split", "label", "fold", "seed", "layer", "group", "set", "when", "x", "y")
NUMBERS = ("model", "split", "label", "fold", "seed", "layer", "variance_axis_1", "variance_axis_2", "pair", "energy",
           "energy_share", "wasserstein_axis_1")  # fmt: skip


def activations(run: Run, folder: Path) -> list[Path]:
    """`activations.csv` (points), `activations-numbers.csv` (distances), `.svg` and `.pdf`.

    The figure shows the first fold and seed of each row; the data hold all of them.
    """
    cells = [cell for cell in run.cells if cell.status == "done" and cell.activations is not None]
    points = [row for cell in cells for row in _points(cell)]
    numbers = [row for cell in cells for row in _numbers(cell)]
    files = [
        write_data(folder / "activations.csv", points or [dict.fromkeys(POINTS)]),
        write_data(folder / "activations-numbers.csv", numbers or [dict.fromkeys(NUMBERS)]),
    ]
    first: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        first.setdefault((cell.model, cell.split), {}).setdefault(cell.label, cell)
    if not first:
        return files
    wide = max(map(len, first.values()))
    with figure(folder / "activations", (4.4 * wide, 5.2 * len(first))) as (drawn, written):
        grid = drawn.subplots(len(first), wide, squeeze=False)
        for row, (place, found) in zip(grid, first.items(), strict=True):
            for panel in row[len(found) :]:
                panel.set_axis_off()
            for panel, (label, cell) in zip(row, found.items(), strict=False):
                assert cell.activations is not None
                _panel(panel, cell.activations)
                panel.set_title(f"{panel_title(*place)}\n{label}, after block {cell.activations.layer + 1}")
        handles, labels = grid[0][0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=4)
    return [*files, *written]


def _about(cell: Cell) -> dict[str, Any]:
    assert cell.activations is not None
    about = {"model": cell.model, "split": cell.split, "label": cell.label, "fold": cell.fold, "seed": cell.seed}
    return {**about, "layer": cell.activations.layer}


def _points(cell: Cell) -> list[dict[str, Any]]:
    assert cell.activations is not None
    return [
        {**_about(cell), "group": group, "set": cloud.set, "when": when, "x": x, "y": y}
        for group, cloud in cell.activations.groups.items()
        for when, places in (("before", cloud.before), ("after", cloud.after))
        for x, y in places
    ]


def _numbers(cell: Cell) -> list[dict[str, Any]]:
    assert cell.activations is not None
    one, two = cell.activations.variance
    about = {**_about(cell), "variance_axis_1": one, "variance_axis_2": two}
    return [{**about, "pair": pair, **values} for pair, values in cell.activations.distances.items()]


def _panel(panel: Any, found: Activations) -> None:
    for group, cloud in found.groups.items():
        colour = COLOURS[group]
        for when, places, style in (
            ("before", cloud.before, {"facecolors": "none", "edgecolors": colour, "linewidths": 0.7}),
            ("after", cloud.after, {"color": colour, "alpha": 0.55, "linewidths": 0}),
        ):
            panel.scatter(*zip(*places, strict=True), s=14, label=f"{group}, {when}", **style)
    one, two = found.variance
    panel.set_xlabel(f"axis 1 ({100 * one:.0f} % of the variance)\n\n{_beside(found)}")
    panel.set_ylabel(f"axis 2 ({100 * two:.0f} %)")


def _beside(found: Activations) -> str:
    """The distances in words, below the picture."""
    lines = [
        f"{title}: {found.distances[pair]['energy_share']:.3f}" for pair, title in PAIRS if pair in found.distances
    ]
    return "\n".join(["energy distance (0 the same, 1 apart)", *lines])
