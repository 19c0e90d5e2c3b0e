"""What a comparison leaves behind in its folder, and reading it again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mllmeraser.comparison.cells import Cell, read_cell
from mllmeraser.comparison.gate import Verdict
from mllmeraser.evaluation.outcomes import OUTCOMES
from mllmeraser.evaluation.provenance import BLOCK
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole

COMPARISON, RESULTS, TABLE = "comparison.json", "results.json", "results.parquet"


@dataclass(frozen=True)
class Run:
    """A comparison as its exhibits see it.

    Attributes:
        recipe: As it was run.
        cells: All cells, in order.
        verdicts: Of the memorisation gate.
        refused: Model and split -> why there are no scores of them.
    """

    recipe: Mapping[str, Any]
    cells: tuple[Cell, ...]
    verdicts: tuple[Verdict, ...] = ()
    refused: Mapping[tuple[str, str], str] | None = None

    @property
    def scored(self) -> list[Cell]:
        """Cells with scores that mean something."""
        left_out = self.refused or {}
        return [cell for cell in self.cells if cell.status == "done" and (cell.model, cell.split) not in left_out]

    @property
    def labels(self) -> list[str]:
        """Rows in the order of the recipe, vanilla and its twin first, hook-off last."""
        return list(dict.fromkeys(cell.label for cell in self.cells))

    @property
    def places(self) -> list[tuple[str, str]]:
        """Models and splits, in order."""
        return list(dict.fromkeys((cell.model, cell.split) for cell in self.cells))


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else, before the work.

    Raises:
        InputError: It is a file, cannot be written to, or holds files and no comparison.
    """
    if out.is_dir():
        if any(out.iterdir()) and not ((out / COMPARISON).is_file() or (out / "cells").is_dir()):
            raise InputError(f"{out} holds something that is no comparison: choose another folder")
    elif os.path.lexists(out):
        raise InputError(f"{out} is not a folder: choose another place")
    above = out.absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{out} cannot be written: no permission to write in {above}")


def tidy(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One record for each method, set, modality and task of each cell."""
    return [
        {
            **record.model_dump(),
            "label": cell.label,
            "variant": cell.variant,
            "fold": cell.fold,
            "fingerprint": cell.fingerprint,
        }
        for cell in cells
        for record in cell.records
    ]


def write_results(
    out: Path,
    recipe: Mapping[str, Any],
    cells: Sequence[Cell],
    verdicts: Sequence[Verdict],
    refused: Mapping[tuple[str, str], str],
    block: Mapping[str, Any],
) -> Run:
    """Write `results.json`, `results.parquet` and `comparison.json`, each whole or not at all."""
    run = Run(recipe, tuple(cells), tuple(verdicts), dict(refused))
    records = tidy(run.scored)
    write_whole(out / RESULTS, json.dumps(records, indent=1, ensure_ascii=False) + "\n", force=True)
    _write_table(out / TABLE, records)
    content = {
        BLOCK: dict(block),
        "recipe": dict(recipe),
        "cells": [{"digest": c.digest, "title": c.title, "status": c.status, "reason": c.reason} for c in cells],
        "verdicts": [verdict.model_dump() for verdict in verdicts],
        "refused": [[model, split, reason] for (model, split), reason in refused.items()],
    }
    write_whole(out / COMPARISON, json.dumps(content, indent=1, ensure_ascii=False) + "\n", force=True)
    return run


def read_run(out: Path) -> Run:
    """What `write_results` wrote.

    Raises:
        InputError: There is no comparison in `out`, or cells of it are gone.
    """
    file = out / COMPARISON
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        cells = [read_cell(out, entry["digest"]) for entry in content["cells"]]
        verdicts = tuple(Verdict.model_validate(entry) for entry in content["verdicts"])
        refused = {(model, split): reason for model, split, reason in content["refused"]}
        recipe = dict(content["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}: no comparison is here: run mllmeraser compare RECIPE.yaml --out {out}") from None
    there = tuple(cell for cell in cells if cell is not None)
    if len(there) < len(cells):
        raise InputError(f"{out}: {len(cells) - len(there)} of {len(cells)} cells are gone: run compare again")
    return Run(recipe, there, verdicts, refused)


def _write_table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """The records as parquet, outcomes and further scores as columns of their own."""
    scores = list(dict.fromkeys(f"score_{name}" for record in records for name in record["scores"]))
    rows = [_flat(record, scores) for record in records]
    names = {"outcomes": [f"outcome_{name}" for name in OUTCOMES], "scores": scores}
    columns = [column for name in _SCHEMA for column in names.get(name, [name])]
    schema = pa.schema([(name, _SCHEMA.get(name, _more_type(name))) for name in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema), beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _flat(record: Mapping[str, Any], scores: Sequence[str]) -> dict[str, Any]:
    flat = {key: value for key, value in record.items() if key not in ("outcomes", "scores")}
    flat |= {f"outcome_{name}": record["outcomes"].get(name, 0) for name in OUTCOMES}
    return flat | {name: record["scores"].get(name.removeprefix("score_")) for name in scores}


def _more_type(name: str) -> pa.DataType:
    return pa.int64() if name.startswith("outcome_") else pa.float64()


_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
_SCHEMA: dict[str, pa.DataType] = {
    "method": _TEXT, "preset": _TEXT, "variant": _TEXT, "label": _TEXT, "model": _TEXT, "fingerprint": _TEXT,
    "benchmark": _TEXT, "protocol": _TEXT, "split": _TEXT, "fold": _WHOLE, "seed": _WHOLE, "set": _TEXT,
    "modality": _TEXT, "task": _TEXT, "n": _WHOLE, "people": _WHOLE, "accuracy": _REAL, "ci_low": _REAL,
    "ci_high": _REAL, "rouge_l": _REAL, "outcomes": _TEXT, "scores": _TEXT, "policy": _TEXT, "seconds": _REAL,
}  # fmt: skip
"""Columns of the table in order; `outcomes` and `scores` stand for theirs."""
