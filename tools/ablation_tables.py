"""Fill the tables of docs/ablations.md from committed results: ``python tools/ablation_tables.py``.

``--check`` writes nothing; the exit code is 1 if the page differs from the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from readme_tables import MODELS, RESULTS, ROOT, markdown, refresh  # noqa: E402

PAGE = ROOT / "docs" / "ablations.md"
SECTIONS = (
    "policies", "directions", "attack", "null space", "no null space", "no gate", "gates", "layers", "block input",
    "strength", "samples", "refit",
)  # fmt: skip
Entry = Mapping[str, Any]
Column = Callable[[Entry], str]
NONE = "–"


def _share(*path: str, interval: bool = False) -> Column:
    """A column with a share of an entry in per cent, optionally with its interval; a dash without one."""

    def cell(entry: Entry) -> str:
        found: Any = entry
        for name in path:
            found = found.get(name) if found else None
        if not found:
            return NONE
        told = f"{100 * found['share']:.1f}"
        return f"{told} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]" if interval else told

    return cell


def _clean(entry: Entry) -> str:
    """Share of all answers about the forgotten that only say "I do not know", or refuse."""
    ended = entry.get("outcomes")
    return f"{100 * (ended.get('unknown', 0) + ended.get('refused', 0)) / sum(ended.values()):.1f}" if ended else NONE


def _auc(entry: Entry) -> str:
    found = entry.get("decision", {}).get("auc")
    return NONE if found is None else f"{found:.4f}"


def _length(entry: Entry) -> str:
    """Mean length of the direction over the shifted layers."""
    lengths = entry.get("lengths")
    return f"{sum(lengths.values()) / len(lengths):.2f}" if lengths else NONE


COLUMNS: dict[str, Column] = {
    "recalled": _share("recalled", interval=True),
    "by picture": _share("by_picture"),
    "by name": _share("by_name"),
    "by letter": _share("letters"),
    'clean "unknown"': _clean,
    "everyone else": _share("kept", "retain_heldout", interval=True),
    "celebrities": _share("kept", "celebrity"),
    "general": _share("kept", "general"),
    "perception": _share("kept", "perception"),
    "other answers changed": _share("changed", interval=True),
    "AUC": _auc,
    "detected": _share("decision", "detected"),
    "false alarms": _share("decision", "false_alarms"),
}
FURTHER: dict[str, dict[str, Column]] = {
    "attack": {"pairs flipped": _share("flipped", interval=True)},
    "directions": {"length": _length},
}


def table(section: str, file: Path) -> str:
    """The measured rows of a section."""
    report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"results": []}
    entries = [entry for entry in report["results"] if entry["section"] == section]
    if not entries:
        return "*Not measured yet.*"
    columns = FURTHER.get(section, {}) | COLUMNS
    rows = [[_told(entry), *(column(entry) for column in columns.values())] for entry in entries]
    return markdown([[section, *columns], *rows])


def _told(entry: Entry) -> str:
    return entry["name"] + (f" (no artifact: {entry['failed']})" if "failed" in entry else "")


TABLES: dict[str, Callable[[], str]] = {
    f"ablation {section}, {model}": partial(table, section, RESULTS / f"ablation-{model}.json")
    for section in SECTIONS
    for model in MODELS
}


if __name__ == "__main__":
    sys.exit(refresh(PAGE, TABLES, check="--check" in sys.argv[1:]))
