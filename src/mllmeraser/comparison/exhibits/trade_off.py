"""Forgetting against utility: a point for each row, the Pareto front, and a panel for each model and split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.comparison.exhibits.files import OURS_COLOUR, figure, panel_title, row_colours, write_data
from mllmeraser.comparison.pooling import Pooled, balanced, values_of
from mllmeraser.comparison.recipe import HOOK_OFF, RETAIN_ONLY
from mllmeraser.comparison.results import Run

FORGET = ("test", "forget")
UTILITY = ("retain", "retain_heldout", "celebrity", "general", "perception")
COLUMNS = ("model", "split", "label", "method", "forgetting", "forgetting_low", "forgetting_high", "utility",
           "utility_low", "utility_high", "on_front")  # fmt: skip


def trade_off(run: Run, folder: Path) -> list[Path]:
    """`trade-off.csv`, `.svg`, `.pdf`.

    Forgetting is 100 % minus recall of the people to forget. Utility is recall of everything else. Each set and task
    has the same weight. The front leaves out the retain-only model and hook-off, which are not methods.
    """
    places = [place for place in run.places if points(run, *place)]
    rows = [row for place in places for row in points(run, *place)]
    data = write_data(folder / "trade-off.csv", rows, COLUMNS)
    if not places:
        return [data]
    with figure(folder / "trade-off", (4.2 * len(places) + 1.6, 3.9)) as (drawn, written):
        axes = drawn.subplots(1, len(places), squeeze=False)[0]
        for number, (place, panel) in enumerate(zip(places, axes, strict=True)):
            _panel(panel, points(run, *place), row_colours(run), twin_level(run, *place))
            panel.set_title(panel_title(*place))
            panel.set_xlabel("utility: everything else recalled (%)")
            panel.set_ylabel("forgetting: forgotten not recalled (%)" if number == 0 else "")
        named = dict(pair[::-1] for panel in axes for pair in zip(*panel.get_legend_handles_labels(), strict=True))
        drawn.legend(named.values(), named.keys(), loc="outside right upper")
    return [data, *written]


def points(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    """The points of a panel."""
    rows = []
    for label in run.labels:
        cells = run.scored_cells(model, split, label)
        forget, utility = _mean(cells, FORGET), _mean(cells, UTILITY)
        if forget is None or utility is None:
            continue
        numbers = (1 - forget.mean, 1 - forget.high, 1 - forget.low, utility.mean, utility.low, utility.high)
        rows.append(dict(zip(COLUMNS, (model, split, label, cells[0].method, *numbers, False), strict=True)))
    for row in front(rows):
        row["on_front"] = True
    return rows


def twin_level(run: Run, model: str, split: str) -> float | None:
    """Forgetting of a retain-only row without utility: committed answers are only about the people to forget."""
    cells = run.scored_cells(model, split, RETAIN_ONLY)
    forget = _mean(cells, FORGET)
    return None if forget is None or _mean(cells, UTILITY) is not None else 1 - forget.mean


def front(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Pareto front: rows that no other row beats in one respect and equals in the other, by rising utility."""
    usable = [row for row in rows if row["method"] not in (RETAIN_ONLY, HOOK_OFF)]

    def beaten(row: dict[str, Any]) -> bool:
        mine = (row["forgetting"], row["utility"])
        others = [(one["forgetting"], one["utility"]) for one in usable]
        return any(o[0] >= mine[0] and o[1] >= mine[1] and o != mine for o in others)

    return sorted((row for row in usable if not beaten(row)), key=lambda row: (row["utility"], -row["forgetting"]))


def _mean(cells: Sequence[Any], names: Sequence[str]) -> Pooled | None:
    return balanced(values_of(cells, keep=lambda item: item["set"] in names))


def _panel(panel: Any, rows: Sequence[dict[str, Any]], colours: dict[str, str], level: float | None) -> None:
    best = [(100 * row["utility"], 100 * row["forgetting"]) for row in front(rows)]
    if best:  # from the left edge to the bottom; rows within are beaten
        corners = [(0.0, best[0][1]), *best, (best[-1][0], 0.0)]
        panel.step(*zip(*corners, strict=True), where="pre", color="#9a9fa8", linewidth=1, zorder=1,
                   label="Pareto front")  # fmt: skip
    if level is not None:
        panel.axhline(100 * level, color="#5d646d", linewidth=0.8, linestyle=":", label="retain-only (forgetting)")
    ours = 0
    for row in rows:
        if row["method"] == HOOK_OFF:  # its answers are vanilla's, or its cell has failed
            continue
        colour = colours[row["label"]]
        marker = "*" if row["method"] == RETAIN_ONLY else "o"
        if colour == OURS_COLOUR:
            marker, ours = "DsP^v"[ours % 5], ours + 1
        x, y = 100 * row["utility"], 100 * row["forgetting"]
        wide = [[x - 100 * row["utility_low"]], [100 * row["utility_high"] - x]]
        high = [[y - 100 * row["forgetting_low"]], [100 * row["forgetting_high"] - y]]
        size = {"*": 12, "o": 9}.get(marker, 5)  # ours are small and on top, so that points below are visible
        panel.errorbar(x, y, xerr=wide, yerr=high, fmt=marker, color=colour, markersize=size, linewidth=0.8,
                       alpha=0.9, label=row["label"], zorder=3 if size == 5 else 2)  # fmt: skip
    panel.set_xlim(-3, 103)
    panel.set_ylim(-3, 103)
    panel.grid(color="#e2dfd7", linewidth=0.6)
