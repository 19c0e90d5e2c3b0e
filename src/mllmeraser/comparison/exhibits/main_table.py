"""The main table: every row on every set and task, pooled over folds, seeds and modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.exhibits.files import markdown_table, write_data
from mllmeraser.comparison.pooling import Key, Metric, Pooled, Value, difference, pooled, values_of
from mllmeraser.comparison.recipe import MANDATORY, OURS, VANILLA
from mllmeraser.comparison.results import Run
from mllmeraser.evaluation import Item, get_protocol
from mllmeraser.samples.files import write_whole

SETS = ("forget", "test", "retain", "retain_heldout", "celebrity", "general", "perception", "holdout")
TASKS = ("classification", "generation", "cloze")
MODALITIES = ("all", "image", "text")
METRICS: tuple[Metric, ...] = ("accuracy", "rouge_l")
ABOUT = ("model", "split", "label", "method", "set", "task", "modality", "metric")
COLUMNS = (*ABOUT, "folds", "seeds", "n", "people", "mean", "ci_low", "ci_high", "minus_vanilla", "minus_vanilla_low",
           "minus_vanilla_high")  # fmt: skip


def main_table(run: Run, folder: Path) -> list[Path]:
    """`main-table.csv` with everything, `main-table.md` for reading."""
    rows = [row for model, split in run.places for row in _data(run, model, split)]
    if not rows:
        rows = [_row(("",) * len(ABOUT), [], Pooled(0, 0, 0.0, 0.0, 1.0), None)]
    data = write_data(folder / "main-table.csv", rows, COLUMNS)
    page = folder / "main-table.md"
    write_whole(page, markdown(run), force=True)
    return [data, page]


def kinds(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """The scored sets and tasks, in the order of the table."""
    scored = {(record.set, record.task) for cell in cells for record in cell.records}
    names = [*SETS, *sorted({name for name, _ in scored} - set(SETS))]
    return [(name, task) for name in names for task in TASKS if (name, task) in scored]


def metric_of(protocol: str, task: str) -> Metric:
    """The metric of a column: ROUGE-L if the protocol scores generation by it, else the share recalled."""
    return "rouge_l" if get_protocol(protocol).official and task == "generation" else "accuracy"


def chosen(cells: Sequence[Cell], name: str, task: str, modality: str, metric: Metric) -> dict[Key, Value]:
    """Scores of one set, task and modality (or all of them)."""

    def keep(item: Item) -> bool:
        return item["set"] == name and item["task"] == task and modality in ("all", item["modality"])

    return values_of(cells, metric, keep)


def _data(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    rows = []
    bare = run.scored_cells(model, split, VANILLA)
    for label in run.labels:
        cells = run.scored_cells(model, split, label)
        keys = [
            (name, task, metric, modality)
            for name, task in kinds(cells)
            for metric in METRICS[: 1 if task == "classification" else 2]
            for modality in MODALITIES
        ]
        for name, task, metric, modality in keys:
            own = chosen(cells, name, task, modality, metric)
            mean = pooled(own, metric)
            if mean is not None:
                against = difference(own, chosen(bare, name, task, modality, metric))
                about = (model, split, label, cells[0].method, name, task, modality, metric)
                rows.append(_row(about, cells, mean, against))
    return rows


def _row(about: Sequence[str], cells: Sequence[Cell], mean: Pooled, against: Pooled | None) -> dict[str, Any]:
    counts = (len({cell.fold for cell in cells}), len({cell.seed for cell in cells}), mean.n, mean.people)
    change = (None, None, None) if against is None else (against.mean, against.low, against.high)
    return dict(zip(COLUMNS, (*about, *counts, mean.mean, mean.low, mean.high, *change), strict=True))


def markdown(run: Run) -> str:
    """The table for reading: per cent with 95 % intervals, and the missing parts with their reasons."""
    parts = [f"# {run.recipe.get('name', 'Comparison')}"]
    for model, split in run.places:
        parts += ["", f"## {model}, {split}", "", *section(run, model, split)]
    return "\n".join(parts) + "\n"


def section(run: Run, model: str, split: str) -> list[str]:
    """One model and split: the table, then notes."""
    header, rows = lines(run, model, split)
    listed = [f"- {line}" for line in notes(run, model, split)]
    return [markdown_table(header, rows), "", *listed] if rows else listed


def lines(run: Run, model: str, split: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one model and split; no lines if its scores are refused."""
    here = [cell for cell in run.cells if (cell.model, cell.split) == (model, split)]
    columns = kinds([cell for cell in here if cell.status == "done"])
    if (model, split) in run.refused or not columns:
        return [], []
    metrics = [metric_of(here[0].protocol, task) for _, task in columns]
    titles = [f"{task} (ROUGE-L)" if m == "rouge_l" else task for m, (_, task) in zip(metrics, columns, strict=True)]
    header = ["method", *(f"{name}, {title}" for (name, _), title in zip(columns, titles, strict=True))]
    rows = []
    for label in run.labels:
        cells = run.scored_cells(model, split, label)
        means = [pooled(chosen(cells, *c, "all", m), m) for c, m in zip(columns, metrics, strict=True)]
        rows.append([label, *map(_shown, means)])
    return header, rows


def notes(run: Run, model: str, split: str) -> list[str]:
    """Notes below the numbers of one model and split."""
    here = [cell for cell in run.cells if (cell.model, cell.split) == (model, split)]
    reason = run.refused.get((model, split))
    if reason is not None:
        texts = [f"Scores are refused, there is too little to forget: {reason}."]
    else:
        texts = ["Per cent with 95 % intervals over people, pooled over pictures and text, folds and seeds."]
    if not run.recipe.get("settings_from") and any(cell.method not in (OURS, *MANDATORY) for cell in here):
        texts.append("The settings of the trained rows were not searched: the recipe names no settings_from.")
    texts += [f"{c.title}: {c.status}, {(c.reason or '').rstrip('.')}." for c in here if c.status != "done"]
    checked = [v for v in run.verdicts if (v.model, v.split) == (model, split) and reason is None]
    return [*texts, *(f"Memorisation, fold {v.fold}: {v.reason.rstrip('.')}." for v in checked)]


def _shown(mean: Pooled | None) -> str:
    if mean is None:
        return "–"
    return f"{100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
