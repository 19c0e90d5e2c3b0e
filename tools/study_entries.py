"""The committed results of a study, by key and by fold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from readme_tables import RESULTS

Entry = Mapping[str, Any]


def report(name: str) -> dict[str, Any]:
    """The result file of that name; empty if there is none."""
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def entries(study: str, model: str) -> dict[str, Entry]:
    """The entries of a study by key; none if there is no result."""
    return {entry["key"]: entry for entry in report(f"{study}-{model}").get("results", [])}


def share(found: Entry, *, interval: bool = True) -> str:
    """Per cent, with the 95 % interval."""
    told = f"{100 * found['share']:.1f}"
    return f"{told} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]" if interval else told


def folds(study: str, model: str) -> Iterable[tuple[int, list[Entry]]]:
    """The entries of a study that has a file for each fold."""
    for fold in range(5):
        found = list(entries(study, f"{model}-fold{fold}").values())
        if found:
            yield fold, found
