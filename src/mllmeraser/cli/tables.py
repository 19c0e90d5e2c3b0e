"""Results as tables for a person at the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_scores(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per record: method, set, modality, task, accuracy with its interval, and the outcomes."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("method", "set", "modality", "task"):
        table.add_column(column)
    for column in ("n", "accuracy", "95 %"):
        table.add_column(column, justify="right")
    table.add_column("outcomes")
    for row in rows:
        outcomes = sorted(row["outcomes"].items(), key=lambda pair: -pair[1])
        table.add_row(
            row["method"],
            row["set"],
            row["modality"],
            row["task"],
            str(row["n"]),
            f"{row['accuracy']:.3f}",
            f"{row['ci_low']:.3f} to {row['ci_high']:.3f}",
            ", ".join(f"{name} {count}" for name, count in outcomes if count),
        )
    Console().print(table)


def print_families(families: Sequence[Mapping[str, Any]]) -> None:
    """One line per family."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("family", "model types", "embedded"):
        table.add_column(column)
    for family in families:
        table.add_row(family["family"], ", ".join(family["model_types"]), ", ".join(family.get("embedded", ())) or "-")
    Console().print(table)


def print_check(check: Mapping[str, Any]) -> None:
    """What `models check` found, one fact per line, then the tests."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for key in ("model", "family", "precision", "layers", "width", "hook_points", "fingerprint"):
        table.add_row(key.replace("_", " "), str(check[key]))
    table.add_row("weights", f"{check['weights_bytes'] / 1e6:,.1f} MB")
    table.add_row(
        "eraser (default)",
        f"at most {check['artifact_bytes'] / 1000:,.1f} kB, {check['artifact_bytes_more'] / 1000:,.1f} kB each further "
        f"person; dense matrices: {check['dense_bytes'] / 1e6:,.1f} MB",
    )
    for test in check["tests"]:
        table.add_row(test["name"], (test["detail"] or "ok") if test["ok"] else f"FAILED: {test['detail']}")
    Console().print(table)


def chosen_line(title: str, chosen: Mapping[str, Any] | None) -> str:
    """What a search took for one method, with the figures behind it."""
    if chosen is None:
        return f"{title}: nothing"
    figures = chosen["figures"]
    said = f"recalled {figures['recalled']:.1%}, utility {figures['utility']:.1%}, "
    said += f"gibberish {figures['gibberish']['forget']:.1%}"
    return (
        f"{title}: {chosen['name']} ({said}{'' if chosen['within'] else '; too much utility lost by every candidate'})"
    )
