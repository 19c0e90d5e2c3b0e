"""The figures of the documentation are drawn from committed results, and are the same for the same results."""

from __future__ import annotations

from pathlib import Path

import pytest
from tool_kit import load_tool, share

figures = load_tool("study_figures")


def test_a_figure_for_every_study_that_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"bare": 1.0, "steered": 1.5}
    named = (("default", "policies"), ("tail, quadratic", "gates"), ("default, strength 2", "strength"))
    rows = {
        "ablation": {
            name: {"name": name, "section": section, "recalled": share(0.5), "changed": share(0.1)}
            for name, section in named
        },
        "many-erasers": {
            f"cost of {n}": {"erasers": n, "prefill_seconds": seconds, "generate_seconds": seconds,
                             "bytes_on_disk": 10 * n, "bytes_attached": 20 * n}
            for n in (1, 10)
        },
    }  # fmt: skip
    monkeypatch.setattr(figures, "entries", lambda study, model: rows[study] if model == "llava" else {})
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "DOCS", tmp_path)
    figures.main()
    drawn = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(drawn) == {"ablation-trade-off.svg", "ablation-strength.svg", "many-erasers.svg"}
    assert b"default" in drawn["ablation-trade-off.svg"] and b"erasers attached" in drawn["many-erasers.svg"]
    figures.main()
    assert drawn == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_nothing_is_drawn_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "entries", lambda study, model: {})
    monkeypatch.setattr(figures, "DOCS", tmp_path)
    figures.main()
    assert not list(tmp_path.iterdir())
