"""Print the README's table of the study: ``python tools/study_table.py benchmarks/results/embedded-llava.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "people forgotten", "recalled by picture", "recalled by name", "choice by letter", 'clean "unknown"',
    "everyone else", "AUC of the decision", "false alarms (stated 1 %)",
)  # fmt: skip


def pooled(cells: dict[str, Any], names: list[str], method: str) -> float:
    """Per cent over several cells together."""
    chosen = [cells[name][method] for name in names]
    return 100 * sum(c["share"] * c["n"] for c in chosen) / sum(c["n"] for c in chosen)


def change(cells: dict[str, Any], names: list[str]) -> str:
    """Before and after."""
    return f"{pooled(cells, names, 'vanilla'):.1f} → {pooled(cells, names, 'mllmeraser'):.1f}"


def row(entry: dict[str, Any]) -> list[str]:
    """One split and fold."""
    told, outcomes, alarms = entry["recalled"], entry["forget_outcomes"], entry["false_alarms"]
    low, high = alarms["ci"]
    clean = outcomes.get("unknown", 0) + outcomes.get("refused", 0)
    return [
        f"{entry['split'].removeprefix('forget_')} %, fold {entry['fold']}",
        change(told, ["image/generation", "image/cloze"]),
        change(told, ["text/generation", "text/cloze"]),
        change(told, ["image/classification", "text/classification"]),
        f"{100 * clean / sum(outcomes.values()):.1f}",
        change(entry["accuracy"], ["retain_heldout"]),
        f"{entry['auc']:.4f}",
        f"{100 * alarms['measured']:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
    ]


def main() -> None:
    """Print the table as Markdown."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for cells in [HEAD, ["---"] * len(HEAD), *(row(entry) for entry in report["results"])]:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
