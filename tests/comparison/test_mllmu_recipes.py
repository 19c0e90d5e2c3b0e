"""The recipes for the 7B models, run on tiny models of the same classes and files in the schema of the data set."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from mllmu_release import write_release

from mllmeraser.comparison.run import run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


# Twenty people are too few for the default's false-alarm rate, and a random model refuses nothing to attack.
SMALL = {"mllmeraser, default": {"false_alarm_rate": 0.2}, "mllmeraser, paper": {"direction": {"kind": "unknown"}}}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("recipe", "folder"), [("llava-1.5-7b", "tiny_llava_path"), ("qwen2.5-vl-7b", "tiny_qwen_path")]
)
def test_the_committed_recipe(recipe: str, folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    content = yaml.safe_load((RECIPES / f"mllmu-{recipe}.yaml").read_text())
    assert content["benchmark"] == "MLLMMU/MLLMU-Bench" and len(content["models"]) == 1
    content["benchmark"] = str(write_release(tmp_path / "MLLMU-Bench"))
    content["models"] = [str(request.getfixturevalue(folder))]
    content["quick"]["methods"].update(SMALL)
    # In this release forget_5 is one person, and answers can be swapped between two or more.
    content["quick"]["splits"] = ["forget_10"]
    content["quick"]["sets"] = dict.fromkeys(content["quick"]["sets"], 1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    out = tmp_path / "out"
    refused = run_recipe(tmp_path / "recipe.yaml", out, quick=True).refused
    assert list(refused.values()) and all("fine-tune the checkpoint" in reason for reason in refused.values())
    assert "were not searched" in (out / "exhibits/main-table.md").read_text()
    done = run_recipe(tmp_path / "recipe.yaml", out, quick=True, force=True)
    assert [f"{cell.title}: {cell.reason}" for cell in done.failed] == []
    records = json.loads((out / "results.json").read_text())
    rows = {"vanilla", "system-prompt", "block-list", "hook-off", "mllmeraser"}
    trained = {"ga", "grad-diff", "kl-min", "npo", "idk", "mmunlearner"}
    assert {r["method"] for r in records} == rows | trained
    assert {r["preset"] for r in records if r["method"] == "mllmeraser"} == {"default", "paper"}
    assert {r["set"] for r in records} == {"forget", "test", "retain", "celebrity"}
    assert {r["protocol"] for r in records} == {"official-zero-shot"} and {r["n"] for r in records} == {1}
    with (out / "exhibits/main-table.csv").open(newline="") as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {"accuracy", "rouge_l"}
    assert (out / "exhibits/activations.svg").is_file() and (out / "report.html").is_file()
