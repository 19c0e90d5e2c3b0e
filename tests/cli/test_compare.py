"""`mllmeraser compare` and `mllmeraser exhibit` through the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mllmeraser.cli.app import app


def run(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def compare(*arguments: str | Path | int) -> Result:
    return run("compare", *arguments, "--threads", 1)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    (line,) = result.stderr.strip().splitlines()
    assert result.stdout == "" and all(word in line for word in words), line


def write(path: Path, model: Path, **changes: Any) -> Path:
    content = {
        "name": "tiny",
        "models": [str(model)],
        "benchmark": "portraits:unit",
        "sets": {"forget": 2},
        "methods": [{"method": "mllmeraser", "settings": {"false_alarm_rate": 0.2}}],
        "quick": {"sets": {"forget": 1}, "activations": 1},
    }
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


@pytest.mark.slow
def test_from_recipe_to_exhibit(tiny_llava_path: Path, tmp_path: Path) -> None:
    recipe, out = write(tmp_path / "r.yaml", tiny_llava_path), tmp_path / "out"
    result = compare(recipe, "--out", out, "--quick", "--force")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.strip() == str(out / "report.html")
    assert "6 cells: 6 run now, 1 without anything to measure" in result.stderr
    assert "no retain-only row" in result.stderr
    records = json.loads((out / "results.json").read_text())
    assert {r["n"] for r in records} == {1}
    (out / "exhibits/outcomes.svg").unlink()
    drawn = run("exhibit", "outcomes", out)
    assert drawn.exit_code == 0 and str(out / "exhibits/outcomes.svg") in drawn.stdout.splitlines()
    assert (out / "exhibits/outcomes.svg").is_file()
    again = compare(recipe, "--out", out, "--quick", "--json", "--force")
    summary = json.loads(again.stdout)
    assert again.exit_code == 0 and (summary["ran"], summary["done"], summary["missing"]) == (0, 5, 1)


def test_failed_cells_are_named_last(tiny_llava_path: Path, tmp_path: Path) -> None:
    # The plain default wants more retain prompts than the little world has.
    recipe = write(tmp_path / "r.yaml", tiny_llava_path, methods=[], sets={"forget": 1})
    result = compare(recipe, "--out", tmp_path / "out", "--force")
    assert result.exit_code == 1 and result.stdout.strip() == str(tmp_path / "out/report.html")
    failed, last = result.stderr.strip().splitlines()[-2:]
    assert failed.startswith("failed: hook-off on ") and "false-alarm rate" in failed
    assert last == "mllmeraser: 1 cell(s) failed, scores of 0 model(s) and split(s) are refused"


def test_bad_input_is_one_line(tiny_llava_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(compare(tmp_path / "none.yaml", "--out", out), "none.yaml", "cannot be read")
    refused(compare(write(tmp_path / "r.yaml", tiny_llava_path, folds=[7]), "--out", out), "fold 7")
    refused(compare(write(tmp_path / "r.yaml", tiny_llava_path, fold=[0]), "--out", out), "unknown key fold")
    recipe = write(tmp_path / "r.yaml", tiny_llava_path)
    refused(compare(recipe, "--out", out, "--set", "benchmark=nowhere"), "no such benchmark")
    refused(compare(recipe, "--out", tmp_path), "choose another folder")
    refused(compare(recipe), "--out")
    assert not out.exists()
    refused(run("exhibit", "outcomes", out), "no comparison is here")
