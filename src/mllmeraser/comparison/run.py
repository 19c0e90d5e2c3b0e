"""Running a comparison: cell after cell, each kept as soon as it is done."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.comparison.cells import Cell, State, Task, read_cell, write_cell
from mllmeraser.comparison.gate import Verdict, refused, verdicts
from mllmeraser.comparison.making import forget_product
from mllmeraser.comparison.page import write_exhibits
from mllmeraser.comparison.plan import Setting, Stage
from mllmeraser.comparison.recipe import Recipe, read_recipe
from mllmeraser.comparison.results import RESULTS, check_folder, write_results
from mllmeraser.comparison.rows import Row, rows_of
from mllmeraser.evaluation.protocols import default_protocol, get_protocol
from mllmeraser.evaluation.provenance import provenance
from mllmeraser.models.loading import load_model, resolve
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.samples.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to.

    Attributes:
        out: Its folder.
        cells: All cells of the recipe in order.
        ran: How many of them were run now; the others were there already.
        verdicts: Of the memorisation gate.
        refused: Model and split -> why its scores were left out of the results; empty if they were forced.
    """

    out: Path
    cells: tuple[Cell, ...]
    ran: int
    verdicts: tuple[Verdict, ...]
    refused: dict[tuple[str, str], str]

    @property
    def failed(self) -> list[Cell]:
        """Cells that should have worked and did not."""
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
    """Check everything that can be checked before a model is loaded.

    Args:
        recipe: What is to be run.
        out: Its folder.
        rows: These alone; None: those of the recipe, and those that are always there.

    Raises:
        InputError: Something in the recipe does not exist, or `out` holds something else.
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
                benchmark.samples(name, split, fold)  # says what is missing


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
        path: The recipe.
        out: Its folder; what an earlier run finished there is not run again.
        quick: Make the changes that the recipe states for a quick run.
        changes: `KEY=VALUE` in place of keys of the recipe.
        force: Give scores also where the memorisation gate is not passed.
        progress: Told how far the work is: `cells`, and `make` and `answers` within a cell.

    Raises:
        InputError: The recipe or the folder cannot be used.
    """
    recipe = read_recipe(path, quick=quick, changes=changes)
    setting = prepare(recipe, out)
    cells, ran = run_cells(setting, progress)
    found = verdicts(cells)
    left_out = {} if force else refused(found)
    outcome = Outcome(out, tuple(cells), ran, tuple(found), left_out)
    more = [*["--quick"] * quick, *["--force"] * force, *(word for change in changes for word in ("--set", change))]
    command = shlex.join(["mllmeraser", "compare", str(path), "--out", str(out), *more])
    block = provenance(command, recipe.seeds)
    run = write_results(out, recipe.model_dump(mode="json"), outcome.cells, outcome.verdicts, outcome.refused, block)
    write_exhibits(run, out)
    return outcome


def run_cells(setting: Setting, progress: Progress | None = None) -> tuple[list[Cell], int]:
    """Run what is not there yet; returns all cells in order, and how many were run."""
    recipe, cells, ran = setting.recipe, [], 0
    total = _count(recipe, setting.rows)
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
    """Run one cell; a fault becomes a cell that says so."""
    try:
        return stage.run(task, done, progress)
    except Exception as error:  # whatever a method may raise: the other cells go on
        said = " ".join(str(error).split())
        reason = said if said and isinstance(error, MLLMEraserError) else f"{type(error).__name__}: {said}"
        trace = None if isinstance(error, MLLMEraserError) else traceback.format_exc()
        return Cell(**stage.blank(task), status="failed", reason=reason, trace=trace)


def _count(recipe: Recipe, rows: Sequence[Row]) -> int:
    seeds = sum(len(recipe.seeds) if row.seeded else 1 for row in rows)
    return len(recipe.models) * len(recipe.pairs()) * seeds
