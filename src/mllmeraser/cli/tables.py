"""Results as tables for a person at the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}\+00:00$")


def score_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line per record: method, set, modality, task, accuracy with its interval, and the outcomes."""
    table = _table("method", "set", "modality", "task", right=("n", "accuracy", "95 %"), last="outcomes")
    for row in rows:
        outcomes = sorted(row["outcomes"].items(), key=lambda pair: -pair[1])
        table.add_row(
            *(row[column] for column in ("method", "set", "modality", "task")),
            str(row["n"]),
            f"{row['accuracy']:.3f}",
            f"{row['ci_low']:.3f} to {row['ci_high']:.3f}",
            ", ".join(f"{name} {count}" for name, count in outcomes if count),
        )
    return table


def attack_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line per attack."""
    table = _table("attack", "access", right=("n", "leaks", "95 %"))
    for row in rows:
        interval = f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
        table.add_row(row["attack"], row["access"], str(row["n"]), f"{row['leak_rate']:.3f}", interval)
    return table


def family_table(families: Iterable[Mapping[str, Any]]) -> Table:
    """One line per family."""
    table = _table("family", "model types", "embedded")
    for family in families:
        table.add_row(family["family"], ", ".join(family["model_types"]), ", ".join(family.get("embedded", ())) or "-")
    return table


def check_table(check: Mapping[str, Any]) -> Table:
    """The facts of `models check`, one per line, then the tests."""
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
    return table


def check_lines(checks: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per check of a verification."""
    return [
        f"{'passed' if check['passed'] else 'FAILED'}  {check['name'].replace('_', ' ')}: {check['reason']}"
        for check in checks
    ]


def record_lines(record: Mapping[str, Any]) -> str:
    """One line per field that has a value."""
    fields = ((key, value) for key, value in record.items() if value not in (None, {}, []))
    return "\n".join(f"{key.replace('_', ' ')}: {_cell(value)}" for key, value in fields)


def record_table(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """One line per record, with these fields."""
    table = _table(*(column.replace("_", " ") for column in columns), overflow="fold")
    for record in records:
        table.add_row(*(Text(_cell(record[column])) for column in columns))
    return table


def chosen_line(title: str, chosen: Mapping[str, Any] | None) -> str:
    """The candidate that a search chose for one method, with its figures."""
    if chosen is None:
        return f"{title}: nothing"
    figures = chosen["figures"]
    scores = f"recalled {figures['recalled']:.1%}, utility {figures['utility']:.1%}"
    scores += f", gibberish {figures['gibberish']['forget']:.1%}"
    return (
        f"{title}: {chosen['name']} ({scores}{'' if chosen['within'] else '; every candidate lost too much utility'})"
    )


def _table(*columns: str, right: Sequence[str] = (), last: str | None = None, overflow: Any = "ellipsis") -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (*columns, *right, *(() if last is None else (last,))):
        table.add_column(column, justify="right" if column in right else "left", overflow=overflow)
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return TIME.sub(r"\1Z", value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
