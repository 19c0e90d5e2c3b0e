"""The command that attacks an eraser: it finds what is left, and nothing where nothing is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.cli.app import app
from mllmeraser.embedded import BENCHMARK
from mllmeraser.evaluation.attacks import run as attacks
from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.evaluation.attacks.in_context import BEGUN
from mllmeraser.evaluation.attacks.spellings import SPELLINGS
from mllmeraser.models import load_model
from mllmeraser.samples import Sample
from mllmeraser.samples.conversation import question

FIELDS = {"attack", "access", "method", "preset", "n", "leak_rate", "ci_low", "ci_high"}
TINY = attacks.Size(most=2, tries=2, tokens=30)


@pytest.mark.embedded
@pytest.mark.slow
def test_without_an_eraser_all_attacks_succeed() -> None:
    found = attacks.attack(load_model("embedded:llava"), load_benchmark(BENCHMARK), None, size=TINY)
    assert {one.method for one in found} == {"vanilla"} and all(one.preset is None for one in found)
    by_name = {one.attack: one for one in found}
    assert {"sampled 2 times, any answer", "likeliest of 4 values"} <= set(by_name)
    assert any(name.startswith(f"context: {BEGUN}") for name in by_name)
    assert len({f"name written: {spelling}" for spelling in SPELLINGS} & set(by_name)) > 5
    greedy = [one.leak_rate for one in found if one.attack.startswith(("context", "name"))]
    assert set(greedy) == {1.0}, "the bare model tells what the bare model told"
    assert by_name["sampled 2 times, any answer"].leak_rate > 0.5 and by_name["likeliest of 4 values"].leak_rate > 0.5
    assert all(0 <= one.ci_low <= one.leak_rate <= one.ci_high <= 1 and one.n > 0 for one in found)


def test_the_likeliest_value_is_counted_only_if_it_is_the_true_one(tiny_llava) -> None:
    """A random model finds the true value about as often as chance."""
    benchmark = load_benchmark(BENCHMARK)
    rows = [s for s in benchmark.samples("test") if s.task == "generation" and s.attribute in benchmark.values]
    asked = [Asked("plain", True, s, question(s.prompt, s.image)) for s in rows[:24]]
    ranked = attacks._ranked_first(tiny_llava, benchmark, asked, 0)
    assert 0 < len(ranked) <= 24 and sum(leak for _, leak in ranked) < len(ranked) / 2
    nothing = replace(rows[0], attribute="no such attribute")
    assert attacks._ranked_first(tiny_llava, benchmark, [replace(asked[0], sample=nothing)], 0) == []


def test_a_benchmark_without_open_questions_is_refused(tiny_llava) -> None:
    class Empty:
        name = "empty"

        def samples(self, *_: object, **__: object) -> list[Sample]:
            return []

    from mllmeraser.samples import InputError

    with pytest.raises(InputError, match="no open questions"):
        attacks.attack(tiny_llava, Empty(), None)  # type: ignore[arg-type]


@pytest.mark.embedded
def test_the_command_writes_records_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mllmeraser.api.answers.QUICK", attacks.Size(most=1, tries=1, tokens=20))
    out = tmp_path / "attacks.json"
    arguments = ["attack", "embedded:llava", "--quick", "--json", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    records = json.loads(out.read_text())
    assert records and records == json.loads(done.stdout) and all(set(record) == FIELDS for record in records)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and len(again.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("options", [[], ["--eraser", "none"], ["--benchmark", "none"]], ids=" ".join)
def test_what_cannot_be_attacked_is_one_line(tiny_llava_path: Path, tmp_path: Path, monkeypatch, options) -> None:
    """A model that knows nobody is refused: an empty file would look like no leaks."""
    monkeypatch.setattr("mllmeraser.api.answers.QUICK", attacks.Size(most=1, tries=1, tokens=20))
    given = [str(tmp_path / one) if one == "none" else one for one in options]
    out = tmp_path / "attacks.json"
    done = CliRunner().invoke(app, ["attack", str(tiny_llava_path), "--quick", "--out", str(out), *given])
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1 and not out.exists()
