"""The README agrees with the committed results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "tools" / "readme_tables.py")
assert spec is not None and spec.loader is not None
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


def test_its_tables_are_those_of_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->" in text for name in tables.TABLES)
    assert tables.filled(text) == text, "run python tools/readme_tables.py"
    assert tables.filled(text.replace("→ 0.0", "→ 9.9")) == text


@pytest.mark.parametrize("name", tables.MODELS)
def test_the_results_are_those_of_the_shipped_weights(name: str) -> None:
    card = json.loads((tables.WEIGHTS / name / "model_card.json").read_text(encoding="utf-8"))
    study = json.loads((tables.RESULTS / f"embedded-{name}.json").read_text(encoding="utf-8"))
    assert study["fingerprint"] == card["fingerprint"] and "embedded:" + name in card["command"]


def test_the_scores_of_a_demo_are_kept_with_their_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = tmp_path / "demo" / "scores.json"
    scores.parent.mkdir()
    records = [{"seed": 3, "model": "embedded:smol"}]
    scores.write_text(json.dumps(records), encoding="utf-8")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    tables.keep_demo(scores)
    kept = json.loads((tmp_path / "demo-smol.json").read_text(encoding="utf-8"))
    assert kept["records"] == records and kept["provenance"]["seed"] == 3
    assert kept["provenance"]["command"] == f"mllmeraser demo --model embedded:smol --force --out {scores.parent}"
