"""The file of a study: entries are kept, and only those of the same command on the same weights count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mllmeraser.models.model import MultimodalModel
from mllmeraser.studies.record import Report, report_of, study_parser


def test_entries_of_an_earlier_run_count_and_the_file_says_how_they_were_made(
    tmp_path: Path, tiny_llava: MultimodalModel
) -> None:
    out = tmp_path / "study.json"
    Report(out, "do it", 0, tiny_llava, fresh=False).add("a", {"figure": 1})
    again = Report(out, "do it", 0, tiny_llava, fresh=False)
    assert "a" in again and again["a"]["figure"] == 1 and "b" not in again
    again.add("b", {"figure": 2})
    told = json.loads(out.read_text())
    assert [entry["key"] for entry in told["results"]] == ["a", "b"]
    assert told["fingerprint"] == tiny_llava.fingerprint()
    block = told["provenance"]
    assert (block["command"], block["seed"], block["recorded"]) == ("do it", 0, "by the run")
    assert {"commit", "clean", "hardware", "version"} <= block.keys()


def test_a_run_that_continues_names_the_commits_of_the_runs_before(tmp_path: Path, tiny_llava: MultimodalModel) -> None:
    out = tmp_path / "study.json"
    Report(out, "do it", 0, tiny_llava, fresh=False).add("a", {})
    told = json.loads(out.read_text())
    told["provenance"]["commit"] = "0000000"
    out.write_text(json.dumps(told))
    assert Report(out, "do it", 0, tiny_llava, fresh=False).head["provenance"]["earlier_commits"] == ["0000000"]


@pytest.mark.parametrize("change", ["command", "seed", "weights", "fresh"])
def test_what_was_made_otherwise_is_measured_anew(
    change: str, tmp_path: Path, tiny_llava: MultimodalModel, tiny_qwen: MultimodalModel
) -> None:
    out = tmp_path / "study.json"
    Report(out, "do it", 0, tiny_llava, fresh=False).add("a", {})
    other = Report(
        out,
        "do that" if change == "command" else "do it",
        1 if change == "seed" else 0,
        tiny_qwen if change == "weights" else tiny_llava,
        fresh=change == "fresh",
    )
    assert "a" not in other


def test_the_command_is_the_one_that_anybody_has_to_run(tiny_llava: MultimodalModel) -> None:
    parser = study_parser("forgetting", "What it is.", "embedded-NAME.json")
    parser.add_argument("--preset", default="tail")
    report = report_of(parser, parser.parse_args(["--model", "embedded:llava"]), tiny_llava, "preset")
    assert report.head["provenance"]["command"].endswith(
        "studies.forgetting --model embedded:llava --preset tail --seed 0"
    )
    assert report.out == Path("benchmarks/results/embedded-llava.json")


def test_each_fold_of_a_study_has_its_own_file(tiny_llava: MultimodalModel) -> None:
    parser = study_parser("names", "What it is.", "names-NAME-foldFOLD.json", split=True)
    report = report_of(parser, parser.parse_args(["--fold", "3"]), tiny_llava, "split", "fold")
    assert report.out == Path("benchmarks/results/names-llava-fold3.json")
