"""The main table: every row on every set and task, pooled over folds, seeds and modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.exhibits.files import cells_of, markdown_table, write_data
from mllmeraser.comparison.pooling import Key, Metric, Pooled, Value, difference, pooled, values_of
from mllmeraser.comparison.results import Run
from mllmeraser.comparison.rows import VANILLA
from mllmeraser.evaluation.protocols import get_protocol
from mllmeraser.evaluation.records import Item
from mllmeraser.samples.files import write_whole

SETS = ("forget", "test", "retain", "retain_heldout", "celebrity", "general", "perception", "holdout")
TASKS = ("classification", "generation", "cloze")
MODALITIES = ("all", "image", "text")


def main_table(run: Run, folder: Path) -> list[Path]:
    """`main-table.csv` with everything, `main-table.md` for reading."""
    rows = [row for model, split in run.places for row in _data(run, model, split)]
    if not rows:
        rows = [_empty()]
    data = write_data(folder / "main-table.csv", rows)
    page = folder / "main-table.md"
    write_whole(page, markdown(run), force=True)
    return [data, page]


def kinds(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Sets and tasks that were scored, in the order of the table."""
    found = {(record.set, record.task) for cell in cells for record in cell.records}
    names = [*SETS, *sorted({name for name, _ in found} - set(SETS))]
    return [(name, task) for name in names for task in TASKS if (name, task) in found]


def metric_of(protocol: str, task: str) -> Metric:
    """What a cell of the table shows: ROUGE-L where the protocol counts generation by it, else the share recalled."""
    return "rouge_l" if get_protocol(protocol).official and task == "generation" else "accuracy"


def chosen(cells: Sequence[Cell], name: str, task: str, modality: str, metric: Metric) -> dict[Key, Value]:
    """Scores of one set, task and modality (or all of them)."""

    def keep(item: Item) -> bool:
        return item["set"] == name and item["task"] == task and modality in ("all", item["modality"])

    return values_of(cells, metric, keep)


def _data(run: Run, model: str, split: str) -> list[dict[str, Any]]:
    rows = []
    bare = cells_of(run, model, split, VANILLA)
    for label in run.labels:
        cells = cells_of(run, model, split, label)
        for name, task in kinds(cells):
            metrics: list[Metric] = ["accuracy"] if task == "classification" else ["accuracy", "rouge_l"]
            for metric in metrics:
                for modality in MODALITIES:
                    mine = chosen(cells, name, task, modality, metric)
                    found = pooled(mine, metric)
                    if found is not None:
                        against = difference(mine, chosen(bare, name, task, modality, metric))
                        about = {"model": model, "split": split, "label": label, "method": cells[0].method}
                        about |= {"set": name, "task": task, "modality": modality, "metric": metric}
                        rows.append({**about, **_numbers(cells, found, against)})
    return rows


def _numbers(cells: Sequence[Cell], found: Pooled, against: Pooled | None) -> dict[str, Any]:
    return {
        "folds": len({cell.fold for cell in cells}),
        "seeds": len({cell.seed for cell in cells}),
        "n": found.n,
        "people": found.people,
        "mean": found.mean,
        "ci_low": found.low,
        "ci_high": found.high,
        "minus_vanilla": None if against is None else against.mean,
        "minus_vanilla_low": None if against is None else against.low,
        "minus_vanilla_high": None if against is None else against.high,
    }


def _empty() -> dict[str, Any]:
    about = dict.fromkeys(("model", "split", "label", "method", "set", "task", "modality", "metric"), "")
    return {**about, **_numbers([], Pooled(0, 0, 0.0, 0.0, 1.0), None)}


def markdown(run: Run) -> str:
    """The table for reading: per cent with 95 % intervals, and what is missing with its reason."""
    parts = [f"# {run.recipe.get('name', 'Comparison')}"]
    for model, split in run.places:
        parts += ["", f"## {model}, {split}", "", *section(run, model, split)]
    return "\n".join(parts) + "\n"


def section(run: Run, model: str, split: str) -> list[str]:
    """One model and split: the table, then notes."""
    header, rows = lines(run, model, split)
    said = [f"- {line}" for line in notes(run, model, split)]
    return [markdown_table(header, rows), "", *said] if rows else said


def lines(run: Run, model: str, split: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one model and split; no lines where its scores are refused."""
    here = [cell for cell in run.cells if (cell.model, cell.split) == (model, split)]
    columns = kinds([cell for cell in here if cell.status == "done"])
    if (model, split) in (run.refused or {}) or not columns:
        return [], []
    header = ["method", *(f"{name}, {_title(here, task)}" for name, task in columns)]
    rows = []
    for label in run.labels:
        cells = cells_of(run, model, split, label)
        metrics = [metric_of(here[0].protocol, task) for _, task in columns]
        found = [
            pooled(chosen(cells, *column, "all", metric), metric)
            for column, metric in zip(columns, metrics, strict=True)
        ]
        rows.append([label, *map(_shown, found)])
    return header, rows


def notes(run: Run, model: str, split: str) -> list[str]:
    """What a reader has to know beside the numbers of one model and split."""
    here = [cell for cell in run.cells if (cell.model, cell.split) == (model, split)]
    reason = (run.refused or {}).get((model, split))
    if reason is not None:
        said = [f"Scores are refused, there is too little to forget: {reason}."]
    else:
        said = ["Per cent with 95 % intervals over people, pooled over pictures and text, folds and seeds."]
    said += [f"{c.title}: {c.status}, {(c.reason or '').rstrip('.')}." for c in here if c.status != "done"]
    told = [v for v in run.verdicts if (v.model, v.split) == (model, split) and reason is None]
    return [*said, *(f"Memorisation, fold {v.fold}: {v.reason.rstrip('.')}." for v in told)]


def _title(cells: Sequence[Cell], task: str) -> str:
    return f"{task} (ROUGE-L)" if metric_of(cells[0].protocol, task) == "rouge_l" else task


def _shown(found: Pooled | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
