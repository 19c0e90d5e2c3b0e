"""docs/ablations.md says what the committed results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tool_kit import load_tool, share

from mllmeraser.studies.ablation.sections import all_rows

tables = load_tool("ablation_tables")


def entry(section: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "key": f"{section}: {name}", "section": section, "name": name, "recalled": share(0.5), "letters": share(0.25),
        "by_picture": share(0.2), "by_name": share(0.8), "changed": share(0.01),
        "outcomes": {"unknown": 2, "refused": 1, "recalled": 1},
        "kept": {"retain_heldout": share(1.0), "celebrity": share(0.75)}, **more,
    }  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    entries = [
        entry("attack", "epsilon 4", flipped=share(0.75), decision={"auc": 0.875, "mean_forget": 0.5}),
        {"key": "attack: none", "section": "attack", "name": "none", "failed": "no pair", "flipped": share(0.0)},
        entry("gates", "clamp", decision={"auc": 1.0, "detected": share(0.9), "false_alarms": share(0.0)}),
    ]
    out = tmp_path / "ablation.json"
    out.write_text(json.dumps({"results": entries}))
    return out


def cells(text: str) -> list[dict[str, str]]:
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_table_has_the_rows_of_its_section_and_dashes_where_nothing_was_measured(file: Path) -> None:
    first, second = cells(tables.table("attack", file))
    assert first["attack"] == "epsilon 4" and first["pairs flipped"] == "75.0 [37.5, 100.0]"
    assert first["recalled"] == "50.0 [25.0, 100.0]" and first['clean "unknown"'] == "75.0"
    assert (first["by picture"], first["by name"], first["by letter"]) == ("20.0", "80.0", "25.0")
    assert (first["AUC"], first["detected"], first["general"]) == ("0.8750", "–", "–")
    assert second["attack"] == "none (no artifact: no pair)" and second["recalled"] == second["AUC"] == "–"
    assert second["pairs flipped"].startswith("0.0 ")
    (only,) = cells(tables.table("gates", file))
    assert (only["detected"], only["false alarms"]) == ("90.0", "0.0") and "pairs flipped" not in only


def test_what_was_not_measured_is_said(file: Path, tmp_path: Path) -> None:
    for missing in (tables.table("refit", file), tables.table("gates", tmp_path / "nothing.json")):
        assert missing == "*Not measured yet.*"


def test_the_page_shows_the_results_and_every_section_of_the_plan() -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->" in text for name in tables.TABLES)
    assert tuple(dict.fromkeys(row.section for row in all_rows(6))) == tables.SECTIONS
    from readme_tables import filled

    assert filled(text, tables.TABLES) == text, "run python tools/ablation_tables.py"
