"""`erase` ends with a verdict, and does not print success where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from worlds import quick, small_request

from mllmeraser import api
from mllmeraser.cli.app import app
from mllmeraser.erasure import fit
from mllmeraser.models.model import MultimodalModel
from tiny import picture

GOOD = {"detected": 1.0, "false_alarms": 0.0, "false_alarms_interval": (0.0, 0.01), "auc": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jane").mkdir()
    picture(0).save(tmp_path / "jane" / "0.png")
    (tmp_path / "log.jsonl").write_text("\n".join(f'{{"question": "What is {n} plus two?"}}' for n in range(30)))
    return tmp_path


def erased(
    monkeypatch: pytest.MonkeyPatch, model: MultimodalModel, path: Path, folder: Path, good: bool, *more: str
) -> Any:
    """The command with a fit that is known: detecting nearly everything, or nothing."""
    made = fit(model, small_request(), quick()).eraser
    changes = GOOD if good else {**GOOD, "detected": 0.0, "auc": 0.505}
    made = made.replace_config(threshold=1e9, calibration=made.config.calibration.model_copy(update=changes))
    monkeypatch.setattr(api, "erase_together", lambda *_, **__: made)
    command = ["erase", str(path), "--forget", str(folder / "jane"), "--out", str(folder / "e"), *more]
    return CliRunner().invoke(app, command)


def test_a_good_fit_exits_with_0(monkeypatch, tiny_llava, tiny_llava_path, folder) -> None:
    result = erased(monkeypatch, tiny_llava, tiny_llava_path, folder, True)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "verdict: it passed its own calibration"


def test_a_fit_that_detects_nothing_exits_with_3_unless_that_is_accepted(
    monkeypatch, tiny_llava, tiny_llava_path, folder
) -> None:
    result = erased(monkeypatch, tiny_llava, tiny_llava_path, folder, False)
    assert result.exit_code == 3 and "verdict: NOT VERIFIED (detected, AUC)" in result.stdout
    assert "--accept" in result.stderr and (folder / "e").is_dir()
    accepted = erased(monkeypatch, tiny_llava, tiny_llava_path, folder, False, "--accept", "--force", "--json")
    assert accepted.exit_code == 0 and json.loads(accepted.stdout)["verdict"]["passed"] is False


def test_traffic_is_measured_and_kept(monkeypatch, tiny_llava, tiny_llava_path, folder) -> None:
    result = erased(
        monkeypatch, tiny_llava, tiny_llava_path, folder, True, "--traffic", str(folder / "log.jsonl"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "false alarms on traffic: 0.000" in result.stdout
    kept = json.loads((folder / "e" / "eraser_config.json").read_text())["verification"]
    assert kept["traffic_prompts"] == 30.0


def test_a_model_of_ones_own_needs_its_own_retain_set(tiny_llava_path: Path, folder: Path) -> None:
    command = ["erase", str(tiny_llava_path), "--forget", str(folder / "jane"), "--out", str(folder / "e")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "give --retain, or --shipped-retain" in result.stderr
    assert not (folder / "e").exists()
