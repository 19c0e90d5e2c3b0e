"""The block that every result carries says which code was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from mllmeraser.evaluation import provenance as module
from mllmeraser.evaluation.provenance import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that holds the module."""
    file = tmp_path / "src" / "provenance.py"
    file.parent.mkdir()
    file.write_text("first\n")
    for words in (
        ("init", "-q"), ("add", "src"), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"),
    ):  # fmt: skip
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "__file__", str(file))
    return tmp_path


def test_it_names_commit_hardware_and_seed(checkout: Path) -> None:
    block = provenance("do it", [1, 2])
    assert len(block["commit"]) >= 7 and block["clean"] is True
    assert block["seed"] == [1, 2] and f"torch {torch.__version__}" in block["hardware"]


def test_changed_code_is_marked_but_a_new_result_is_not(checkout: Path) -> None:
    (checkout / "benchmarks" / "results").mkdir(parents=True)
    (checkout / "benchmarks" / "results" / "new.json").write_text("{}")
    assert provenance("do it", 0)["clean"] is True
    (checkout / "src" / "provenance.py").write_text("second\n")
    assert provenance("do it", 0)["clean"] is False


def test_a_package_outside_its_checkout_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(checkout / "src" / "installed.py"))
    block = provenance("do it", 0)
    assert block["commit"] is None and block["clean"] is None
