"""A data set in the schema of MLLMU-Bench."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from mllmu_release import write_release

from mllmeraser.benchmarks import Benchmark, load_benchmark


@pytest.fixture(scope="session")
def release_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("protocols") / "MLLMU-Bench")


@pytest.fixture(scope="session")
def release(release_folder: Path) -> Benchmark:
    """As the official protocols read it."""
    return load_benchmark(str(release_folder), prompts="plain")
