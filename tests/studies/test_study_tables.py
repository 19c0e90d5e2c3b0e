"""docs/studies.md says what the committed results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tool_kit import load_tool, share

tables = load_tool("study_tables")


def summary(*kept: str) -> dict[str, Any]:
    return {"recalled": share(0.5), "letters": share(0.25), "outcomes": {"unknown": 3, "recalled": 1},
            "kept": {name: share(0.75) for name in kept}}  # fmt: skip


def test_the_page_says_what_the_results_say() -> None:
    assert tables.refresh(tables.PAGE, tables.TABLES, check=True) == 0


def test_rows_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study_entries.RESULTS", tmp_path)
    kept = ("retain_heldout", "celebrity", "general", "perception")
    seconds = {"prefill_seconds": {"bare": 1.0, "steered": 1.5}, "generate_seconds": {"bare": 2.0, "steered": 2.0}}
    costs = [
        {"key": f"cost of {n}", "erasers": n, "bytes_on_disk": 70_000 * n, "bytes_attached": 60_000 + 1000 * n,
         "attach_seconds": 0.5, **seconds} for n in (1, 10)
    ]  # fmt: skip
    results = [{"key": "bare", **summary(*kept)}, *costs]
    (tmp_path / "many-erasers-llava.json").write_text(json.dumps({"results": results}))
    assert tables.TABLES["many"]().splitlines()[2:] == [
        "| llava | bare | 50.0 [25.0, 100.0] | 25.0 | 75.0 | 75.0 | 75.0 | 75.0 | 75.0 |"
    ]
    assert tables.TABLES["cost"]().splitlines()[3] == "| llava | 10 | 700 | 70 | 1.0 | 0.50 | +50.0 % | +0.0 % |"
    assert tables.TABLES["oracle"]() == "*Not measured yet.*"
