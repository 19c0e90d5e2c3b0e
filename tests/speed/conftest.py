"""The speed benchmarks are scripts beside the package: their folder is put on the path."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from speed_kit import SCRIPTS, Run

sys.path.insert(0, str(SCRIPTS))


@pytest.fixture
def threads():
    """Scripts set the number of threads of the process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def report(tmp_path: Path, threads: None) -> Run:
    """Runs a script's main in this process and reads the report that it wrote."""

    def run(main: Callable[[list[str]], None], *arguments: object) -> dict[str, Any]:
        out = tmp_path / "deep" / "report.json"
        main([*map(str, arguments), "--out", str(out)])
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        block = found["provenance"]
        assert {"command", "version", "commit", "clean", "hardware", "seed"} <= block.keys() and "results" in found
        assert f"torch {torch.__version__}" in block["hardware"] and "1 threads" in block["hardware"]
        assert "cores)" in block["hardware"], "a CPU is named, with its cores"
        return found

    return run
