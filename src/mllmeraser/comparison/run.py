"""Running a comparison cell by cell; each cell is kept as soon as it is done."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.comparison.cells import Cell, State, Task, read_cell, write_cell
from mllmeraser.comparison.html_report import write_exhibits
from mllmeraser.comparison.memorisation_check import refused, verdicts
from mllmeraser.comparison.method_rows import Row, rows_of
from mllmeraser.comparison.products import forget_product
from mllmeraser.comparison.recipe import Recipe, read_recipe
from mllmeraser.comparison.results import RESULTS, Run, check_folder, write_results
from mllmeraser.comparison.stage import Setting, Stage
from mllmeraser.evaluation import default_protocol, get_protocol
from mllmeraser.evaluation.provenance import provenance
from mllmeraser.models import load_model
from mllmeraser.models.loading import resolve
from mllmeraser.samples import MLLMEraserError
from mllmeraser.samples.progress import Progress


@dataclass(frozen=True)
class Outcome(Run):
    """A comparison after its run; `ran` is the number of cells that this run made in the folder `out`."""

    out: Path = Path()
    ran: int = 0

    @property
    def failed(self) -> list[Cell]:
        """Cells with an error."""
        return [cell for cell in self.cells if cell.status == "failed"]

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        counts = {state: sum(c.status == state for c in self.cells) for state in get_args(State)}
        return {
            "cells": len(self.cells),
            "ran": self.ran,
            **counts,
            "failures": [f"{cell.title}: {cell.reason}" for cell in self.failed],
            "refusals": [f"{model}, {split}: {reason}" for (model, split), reason in self.refused.items()],
            "gate": [f"{v.model}, {v.split}, fold {v.fold}: {v.reason}" for v in self.verdicts],
            "results": str(self.out / RESULTS),
            "exhibits": str(self.out / "exhibits"),
            "report": str(self.out / "report.html"),
        }


def prepare(recipe: Recipe, out: Path, rows: Sequence[Row] | None = None) -> Setting:
    """Check everything that can be checked before a model is loaded; any fault is an InputError.

    `rows` (None: those of the recipe and the mandatory ones) are the only ones to run.
    """
    check_folder(out)
    rows = rows_of(recipe) if rows is None else rows
    protocol = None if recipe.protocol is None else get_protocol(recipe.protocol)
    for entry in recipe.models:
        resolve(entry.name)
    benchmark = load_benchmark(
        recipe.benchmark, prompts=None if protocol is None else protocol.prompts, training=recipe.training
    )
    _check_sets(recipe, benchmark)
    return Setting(recipe, tuple(rows), benchmark, protocol or default_protocol(benchmark), out)


def _check_sets(recipe: Recipe, benchmark: Benchmark) -> None:
    for split, fold in recipe.pairs():
        benchmark.forget_ids(split, fold)
        for name in recipe.sets or ():
            if not benchmark.has(name):
                benchmark.samples(name, split, fold)  # raises the error that names it


def run_recipe(
    path: str | Path,
    out: Path,
    *,
    quick: bool = False,
    changes: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Run a recipe into a folder: cells, then results and exhibits.

    Args:
        out: Folder of the comparison; finished cells of an earlier run are not run again.
        quick: Make the changes that the recipe states for a quick run.
        changes: `KEY=VALUE` in place of keys of the recipe.
        force: Give scores even if the memorisation check is not passed.
        progress: Receives the stage `cells`, and `make` and `answers` within a cell.

    Raises:
        InputError: The recipe or the folder cannot be used.
    """
    recipe = read_recipe(path, quick=quick, changes=changes)
    setting = prepare(recipe, out)
    cells, ran = run_cells(setting, progress)
    checked = tuple(verdicts(cells))
    left_out = {} if force else refused(checked)
    outcome = Outcome(recipe.model_dump(mode="json"), tuple(cells), checked, left_out, out, ran)
    more = [*["--quick"] * quick, *["--force"] * force, *(word for change in changes for word in ("--set", change))]
    command = shlex.join(["mllmeraser", "compare", str(path), "--out", str(out), *more])
    write_results(outcome, out, provenance(command, recipe.seeds))
    write_exhibits(outcome, out)
    return outcome


def run_cells(setting: Setting, progress: Progress | None = None) -> tuple[list[Cell], int]:
    """Run the missing cells; returns all cells in order, and the number of those that were run."""
    recipe, cells, ran = setting.recipe, [], 0
    total = cell_count(recipe, setting.rows)
    for entry in recipe.models:
        model = load_model(entry.name, revision=entry.revision, dtype=entry.dtype)
        fingerprint = model.fingerprint()
        for split, fold in recipe.pairs():
            stage = Stage(setting, entry, model, fingerprint, split, fold)
            done: dict[str, Cell] = {}
            used: dict[str, bool] = {}
            for task in stage.tasks():
                cell = read_cell(setting.out, task.digest)
                if cell is None or cell.status == "failed":
                    cell, ran = run_cell(stage, task, done, progress), ran + 1
                    write_cell(setting.out, cell)
                done.setdefault(task.row.label, cell)
                cells.append(cell)
                used[task.product] = used.get(task.product, True) and cell.status == "done"
                if progress is not None:
                    progress("cells", len(cells), total)
            if not recipe.keep_products:
                for product in (name for name, finished in used.items() if name and finished):
                    forget_product(setting.out / "products" / product)
    return cells, ran


def run_cell(stage: Stage, task: Task, done: dict[str, Cell], progress: Progress | None = None) -> Cell:
    """Run one cell; an error becomes a failed cell."""
    try:
        return stage.run(task, done, progress)
    except Exception as error:  # any error of a method: the other cells continue
        text = " ".join(str(error).split())
        reason = text if text and isinstance(error, MLLMEraserError) else f"{type(error).__name__}: {text}"
        trace = None if isinstance(error, MLLMEraserError) else traceback.format_exc()
        return Cell(**stage.blank(task), status="failed", reason=reason, trace=trace)


def cell_count(recipe: Recipe, rows: Sequence[Row]) -> int:
    """Number of cells of a recipe."""
    seeds = sum(len(recipe.seeds) if row.seeded else 1 for row in rows)
    return len(recipe.models) * len(recipe.pairs()) * seeds
