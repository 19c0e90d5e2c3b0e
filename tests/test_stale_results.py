"""Every result says where it comes from, and docs/results.md says which results are older than the code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("stale_results", ROOT / "tools" / "stale_results.py")
assert spec is not None and spec.loader is not None
stale = importlib.util.module_from_spec(spec)
sys.modules["stale_results"] = stale
spec.loader.exec_module(stale)
BLOCKS = dict(stale.provenance_blocks())


@pytest.mark.parametrize("name", BLOCKS)
def test_a_result_states_command_commit_hardware_and_seed(name: str) -> None:
    block = BLOCKS[name]
    assert {"command", "version", "commit", "clean", "hardware", "seed", "recorded"} <= block.keys()
    assert block["command"].startswith(("python ", "mllmeraser "))
    assert "+" not in block["commit"], "a commit alone; `clean` says whether the code differed"
    assert block["recorded"] == "by the run" or block["clean"] is None


@pytest.mark.parametrize("pattern", stale.DEPENDS)
def test_paths_of_code_exist(pattern: str) -> None:
    """Git finds no commits of a missing path, so its results would look new."""
    assert [path for path in stale.DEPENDS[pattern][1] if not (ROOT / path).exists()] == []


def listed() -> dict[str, list[str]]:
    """The rows of the list in the docs, by result."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").partition("<!-- table: results -->")[2]
    lines = [line for line in text.partition("<!-- /table -->")[0].splitlines() if line.startswith("| `")]
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0].strip("`"): row for row in rows}


def test_the_list_names_every_result() -> None:
    assert list(listed()) == list(BLOCKS), "run python tools/stale_results.py --write"


def test_the_list_says_which_results_are_older_than_the_code() -> None:
    """A commit that makes a result older may leave the list as it was; the commit after it may not."""
    reason = stale.no_history()
    if reason:
        pytest.skip(f"{reason}: the history cannot be read")
    rows, before = listed(), {one.name: one for one in stale.results("HEAD~1")}
    for one in stale.results():
        if one.since is None:
            continue  # the history was rewritten since the measurement
        _, kind, measured_at, state = rows[one.name]
        assert (kind, measured_at) == (one.kind, one.measured_at), "run python tools/stale_results.py --write"
        assert state in (one.state, before[one.name].state), "run python tools/stale_results.py --write"
