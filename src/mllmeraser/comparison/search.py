"""Searching the settings of trained methods: on validation people, with the same budget for every method.

Every candidate is a cell of a comparison (see `run`), kept as soon as it is done. The result is one file with the
figures of all candidates, the choices, and the settings that a recipe reads by `settings_from`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import Cell, cell_file
from mllmeraser.comparison.choice import Figures, Judged, Rule, choose, figures_of
from mllmeraser.comparison.method_rows import Row
from mllmeraser.comparison.recipe import SETTINGS, VANILLA
from mllmeraser.comparison.run import prepare, run_cells
from mllmeraser.comparison.space import Candidate, SearchSpace, candidates_of, read_space
from mllmeraser.evaluation.provenance import BLOCK, provenance
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.samples.files import check_target, write_whole
from mllmeraser.samples.progress import Progress

FORMAT = 1


class CrashedError(MLLMEraserError):
    """A candidate crashed. Without it the budgets would not be equal, so there is no choice."""


@dataclass(frozen=True)
class Choice:
    """The choice for one method: its candidates in order, the place of the best (None: none could be made), and why."""

    tried: list[Judged]
    best: int | None
    rule: Rule


@dataclass(frozen=True)
class Search:
    """The result of a search in the file `out`: `ran` of its `cells` were made by this run."""

    out: Path
    ran: int
    cells: int
    vanilla: Figures
    choices: dict[str, Choice]

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "cells": self.cells,
            "ran": self.ran,
            "vanilla": self.vanilla.model_dump(),
            "chosen": {
                title: None if choice.best is None else {**choice.tried[choice.best].model_dump(), "rule": choice.rule}
                for title, choice in self.choices.items()
            },
            "failures": [
                f"{title}: {one.name}: {one.reason}"
                for title, choice in self.choices.items()
                for one in choice.tried
                if one.figures is None
            ],
            "result": str(self.out),
        }


def run_search(
    path: str | Path, out: Path, *, work: Path, force: bool = False, progress: Progress | None = None
) -> Search:
    """Run the missing cells of a search space, choose, and write the result.

    Args:
        out: File of the result.
        work: Folder of the cells; several searches may share one.
        force: Replace an existing `out`.
        progress: Receives the stage `cells`, and `make` and `answers` within a cell.

    Raises:
        InputError: The search space, `out` or `work` cannot be used.
        CrashedError: A candidate or the bare model crashed; all other cells are kept.
    """
    space = read_space(path)
    candidates = candidates_of(space)
    check_target(out, force=force)
    setting = prepare(space.recipe(), work, [Row(VANILLA, VANILLA), *(one.row for one in candidates)])
    cells, ran = run_cells(setting, progress)
    _check_crashes(cells, work)
    vanilla = figures_of([cell for cell in cells if cell.method == VANILLA], space.criterion)
    choices = _choices(space, candidates, cells, vanilla)
    command = shlex.join(["mllmeraser", "search", str(path), "--out", str(out)])
    content = _content(space, cells[0], vanilla, choices, command)
    write_whole(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n", force=force)
    return Search(out, ran, len(cells), vanilla, choices)


def _check_crashes(cells: Sequence[Cell], work: Path) -> None:
    """Refuse cells that left a trace. A training that diverges leaves none: it is a result of its settings."""
    crashed = [cell for cell in cells if cell.status == "failed" and (cell.trace or cell.method == VANILLA)]
    if crashed:
        first = crashed[0]
        raise CrashedError(
            f"{len(crashed)} of {len(cells)} cells crashed, the first: {first.title}: {first.reason} (trace in "
            f"{cell_file(work, first.digest)}); nothing was chosen, the same command tries them again"
        )


def _choices(
    space: SearchSpace, candidates: Sequence[Candidate], cells: Sequence[Cell], vanilla: Figures
) -> dict[str, Choice]:
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.label, []).append(cell)
    choices = {}
    for tried in space.methods:
        own = [_judged(one, rows[one.row.label], space) for one in candidates if one.title == tried.title]
        choices[tried.title] = Choice(own, *choose(own, vanilla, space.criterion))
    return choices


def _judged(candidate: Candidate, cells: Sequence[Cell], space: SearchSpace) -> Judged:
    judged = Judged(name=candidate.name, settings=dict(candidate.settings), cells=[cell.digest for cell in cells])
    failed = next((cell for cell in cells if cell.status != "done"), None)
    if failed is None:
        judged.figures = figures_of(cells, space.criterion)
    else:
        judged.reason = f"seed {failed.seed}: {failed.reason}"
    return judged


def _content(
    space: SearchSpace, one: Cell, vanilla: Figures, choices: dict[str, Choice], command: str
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        BLOCK: provenance(command, space.seeds),
        "name": space.name,
        "model": one.model,
        "fingerprint": one.fingerprint,
        "benchmark": one.benchmark,
        "protocol": one.protocol,
        "split": space.split,
        "fold": space.fold,
        "test_folds": list(space.test_folds),
        "seeds": list(space.seeds),
        "sets": space.recipe().sets,
        "budget": space.budget,
        "criterion": space.criterion.model_dump(mode="json"),
        "vanilla": vanilla.model_dump(),
        "methods": {
            title: {"rule": choice.rule, "candidates": [judged.model_dump(mode="json") for judged in choice.tried]}
            for title, choice in choices.items()
        },
        SETTINGS: {
            title: choice.tried[choice.best].settings for title, choice in choices.items() if choice.best is not None
        },
    }
