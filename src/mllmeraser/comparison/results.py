"""The result files of a comparison."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mllmeraser.comparison.cells import Cell, read_cell
from mllmeraser.comparison.memorisation_check import Verdict
from mllmeraser.evaluation import OUTCOMES
from mllmeraser.evaluation.provenance import BLOCK
from mllmeraser.samples import InputError
from mllmeraser.samples.files import whole_file, write_whole

COMPARISON, RESULTS, TABLE = "comparison.json", "results.json", "results.parquet"


@dataclass(frozen=True)
class Run:
    """A comparison as the exhibits read it; `refused` maps model and split to why there are no scores of them."""

    recipe: Mapping[str, Any]
    cells: tuple[Cell, ...]
    verdicts: tuple[Verdict, ...] = ()
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def scored(self) -> list[Cell]:
        """Finished cells with scores that are not refused."""
        return [cell for cell in self.cells if cell.status == "done" and (cell.model, cell.split) not in self.refused]

    @property
    def labels(self) -> list[str]:
        """Rows in the order of the recipe, vanilla and its twin first, hook-off last."""
        return list(dict.fromkeys(cell.label for cell in self.cells))

    @property
    def places(self) -> list[tuple[str, str]]:
        """Models and splits, in order."""
        return list(dict.fromkeys((cell.model, cell.split) for cell in self.cells))

    def scored_cells(self, model: str, split: str, label: str) -> list[Cell]:
        """The scored cells of one row on one model and split."""
        return [cell for cell in self.scored if (cell.model, cell.split, cell.label) == (model, split, label)]


def check_folder(out: Path) -> None:
    """Raise an InputError, before the work, if `out` is a file, is read-only, or holds files but no comparison."""
    if out.is_dir():
        if any(out.iterdir()) and not ((out / COMPARISON).is_file() or (out / "cells").is_dir()):
            raise InputError(f"{out} holds something that is no comparison: choose another folder")
    elif os.path.lexists(out):
        raise InputError(f"{out} is not a folder: choose another place")
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{out} cannot be written: no permission to write in {above}")


def write_results(run: Run, out: Path, block: Mapping[str, Any]) -> None:
    """Write `results.json`, `results.parquet` and `comparison.json` (with its provenance `block`), each in one step."""
    records = [
        {**record.model_dump(), **cell.model_dump(include={"label", "variant", "fold", "fingerprint"})}
        for cell in run.scored
        for record in cell.records
    ]
    _write_json(out / RESULTS, records)
    _write_table(out / TABLE, records)
    content = {
        BLOCK: dict(block),
        "recipe": dict(run.recipe),
        "cells": [{"digest": c.digest, "title": c.title, "status": c.status, "reason": c.reason} for c in run.cells],
        "verdicts": [verdict.model_dump() for verdict in run.verdicts],
        "refused": [[model, split, reason] for (model, split), reason in run.refused.items()],
    }
    _write_json(out / COMPARISON, content)


def read_run(out: Path) -> Run:
    """The run that `write_results` wrote; an InputError if there is none in `out`, or some of its cells are missing."""
    try:
        content = json.loads((out / COMPARISON).read_text(encoding="utf-8"))
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


def _write_json(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n", force=True)


def _write_table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """The records as parquet, with a column for each outcome and each further score."""
    scores = list(dict.fromkeys(name for record in records for name in record["scores"]))
    nested: dict[str, list[tuple[str, pa.DataType]]] = {
        "outcomes": [(f"outcome_{name}", pa.int64()) for name in OUTCOMES],
        "scores": [(f"score_{name}", pa.float64()) for name in scores],
    }
    rows = [
        {
            **{key: value for key, value in record.items() if key not in nested},
            **{f"outcome_{name}": record["outcomes"].get(name, 0) for name in OUTCOMES},
            **{f"score_{name}": record["scores"].get(name) for name in scores},
        }
        for record in records
    ]
    schema = pa.schema([column for name, kind in _SCHEMA.items() for column in nested.get(name, [(name, kind)])])
    with whole_file(path, force=True) as beside:
        pq.write_table(pa.Table.from_pylist(rows, schema), beside)


_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
_SCHEMA: dict[str, pa.DataType] = {
    "method": _TEXT, "preset": _TEXT, "variant": _TEXT, "label": _TEXT, "model": _TEXT, "fingerprint": _TEXT,
    "benchmark": _TEXT, "protocol": _TEXT, "split": _TEXT, "fold": _WHOLE, "seed": _WHOLE, "set": _TEXT,
    "modality": _TEXT, "task": _TEXT, "n": _WHOLE, "people": _WHOLE, "accuracy": _REAL, "ci_low": _REAL,
    "ci_high": _REAL, "rouge_l": _REAL, "outcomes": _TEXT, "scores": _TEXT, "policy": _TEXT, "seconds": _REAL,
}  # fmt: skip
"""Columns of the table in order; `outcomes` and `scores` are replaced by their own columns."""
