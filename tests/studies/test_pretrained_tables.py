"""docs/pretrained.md says what the card and the committed results say."""

from __future__ import annotations

import pytest
from tool_kit import load_tool

tables = load_tool("pretrained_tables")


def test_the_page_says_what_the_results_say() -> None:
    assert tables.refresh(tables.PAGE, tables.TABLES, check=True) == 0
    assert all(f"<!-- table: {name} -->" in tables.PAGE.read_text(encoding="utf-8") for name in tables.TABLES)


def test_questions_are_still_right_if_they_were_before(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"perplexity": 40.0, "rules kept": 1, "rules": 4}
    found = {"bare": {"right": ["a", "b"], **one}, "taught": {"right": ["b", "c"], **one}}
    monkeypatch.setattr(tables, "entries", lambda *_: found)
    assert list(tables.language())[1] == ["world questions that the bare model answers right", "2", "1 still right"]
