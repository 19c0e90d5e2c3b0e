"""`mllmeraser evaluate --protocol`: what is chosen, what is refused, what is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from mllmu_release import write_release

from mllmeraser.cli.app import app


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("cli") / "MLLMU-Bench")


def run(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--threads", "1"])


def records(result: Result, out: Path) -> list[dict[str, object]]:
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(out.read_text())
    assert found
    return found


def test_an_unknown_protocol_is_one_line(tmp_path: Path) -> None:
    # The model is not there either: the protocol is looked at first.
    result = run("no/such/model", "--benchmark", "portraits:unit", "--protocol", "best", "--out", tmp_path / "s.json")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.strip().splitlines() == [
        "mllmeraser: unknown protocol 'best'; known protocols: portraits, strict, official, official-zero-shot"
    ]
    assert not (tmp_path / "s.json").exists()


def test_portraits_keeps_its_own_protocol(tiny_llava_path: Path, tmp_path: Path) -> None:
    out = [tmp_path / "default.json", tmp_path / "named.json"]
    common = (tiny_llava_path, "--benchmark", "portraits:unit", "--set", "test", "--limit", 1)
    first = records(run(*common, "--out", out[0]), out[0])
    second = records(run(*common, "--protocol", "portraits", "--out", out[1]), out[1])
    assert {r["protocol"] for r in first} == {"portraits"}
    assert [{**r, "seconds": 0} for r in first] == [{**r, "seconds": 0} for r in second]


@pytest.mark.parametrize(
    ("protocol", "used", "n"),
    [(None, "strict", 2), ("official-zero-shot", "official-zero-shot", 1), ("official", "official", 1)],
)
def test_published_files(
    tiny_llava_path: Path, release: Path, tmp_path: Path, protocol: str | None, used: str, n: int
) -> None:
    out = tmp_path / "s.json"
    chosen = () if protocol is None else ("--protocol", protocol)
    common = ("--benchmark", release, "--split", "forget_15", "--set", "forget", "--limit", n)
    found = records(run(tiny_llava_path, *common, *chosen, "--out", out), out)
    assert {r["protocol"] for r in found} == {used} and {r["benchmark"] for r in found} == {"MLLMU-Bench"}
    assert {(r["task"], r["modality"]) for r in found} == {
        (task, modality) for task in ("classification", "generation", "cloze") for modality in ("image", "text")
    }
    names = {r["task"]: set(r["scores"]) for r in found}  # type: ignore[call-overload]
    official = used.startswith("official")
    assert names["generation"] == ({"rouge_1", "rouge_2", "bleu"} if official else set())
    assert names["classification"] == (set() if official else {"option_accuracy", "option_probability"})


def test_too_few_people_for_a_context(tiny_llava_path: Path, release: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    result = run(tiny_llava_path, "--benchmark", release, "--split", "forget_5", "--protocol", "official", "--out", out)
    assert result.exit_code == 2 and "official-zero-shot" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not out.exists()


def test_samples_of_ones_own_are_scored(tiny_llava_path: Path, tmp_path: Path) -> None:
    rows = [{"question": "Where does Jane live?", "answer": "In Rome.", "keywords": ["Rome"], "subject": "jane"},
            {"question": "What is two plus two?", "answer": "four"}]  # fmt: skip
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "rest.jsonl").write_text(json.dumps(rows[1]))
    out = tmp_path / "s.json"
    more = ("--data", tmp_path / "facts.jsonl", "--data", tmp_path / "rest.jsonl", "--out", out)
    found = records(run(tiny_llava_path, *more), out)
    assert {(record["set"], record["n"], record["protocol"]) for record in found} == {
        ("facts", 2, "strict"), ("rest", 1, "strict"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "give --benchmark, or samples of your own with --data"),
        (["--benchmark", "portraits:unit", "--data", "a.jsonl"], "give --benchmark, or samples"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--data", "a/x.jsonl", "--data", "b/x.jsonl"], "have one name"),
    ],
)
def test_bad_samples_of_ones_own_are_one_line(
    tiny_llava_path: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    result = run(tiny_llava_path, *more, "--out", tmp_path / "s.json")
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1
