"""The retain-only row from committed answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

from mllmeraser.benchmarks import load_benchmark
from mllmeraser.benchmarks.thinning import thin
from mllmeraser.comparison.recipe import ModelEntry
from mllmeraser.comparison.twin import StoredAnswers, Twin, answered_sets, find_twin
from mllmeraser.embedded import BENCHMARK, twins
from mllmeraser.evaluation import evaluate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample

LLAVA = ModelEntry(name="embedded:llava", retain_only="committed")
Write = Callable[..., Path]


def test_committed_answers_are_judged_again() -> None:
    benchmark = load_benchmark(BENCHMARK)
    twin = find_twin(LLAVA, BENCHMARK, "portraits", "forget_5", 0)
    assert isinstance(twin, Twin) and twin.answers is not None
    sets = {"forget": thin(benchmark.samples("forget"), 6), "retain": thin(benchmark.samples("celebrity"), 1)}
    known = answered_sets(twin.answers, sets)
    assert list(known) == ["forget"]
    told = cast(MultimodalModel, StoredAnswers("embedded:llava", twin.answers, known))
    result = evaluate(
        told, known, method="retain-only", benchmark=BENCHMARK, split="forget_5",
        values=benchmark.values, vocabulary=benchmark.vocabulary,
    )  # fmt: skip
    with gzip.open(twins.committed("embedded:llava") / "forget_5.items.jsonl.gz", "rt") as lines:
        committed = {item["id"]: item for item in map(json.loads, lines) if item["set"] == "forget"}
    assert len(result.items) == 36
    assert all(committed[item["id"]]["answer"] == item["answer"] for item in result.items)
    assert all(record.n == 6 and record.model == "embedded:llava" for record in result.records)


def test_where_there_is_no_twin(tmp_path: Path) -> None:
    for entry, benchmark, protocol, split, fold, why in (
        (ModelEntry(name="m"), BENCHMARK, "portraits", "forget_5", 0, "names no retain-only model"),
        (ModelEntry(name="m", retain_only="committed"), BENCHMARK, "portraits", "forget_5", 0, "embedded models"),
        (LLAVA, "portraits:unit", "portraits", "forget_5", 0, BENCHMARK),
        (LLAVA, BENCHMARK, "strict", "forget_5", 0, "protocol portraits"),
        (LLAVA, BENCHMARK, "portraits", "forget_5", 3, "forget_5, fold 3"),
        (LLAVA, BENCHMARK, "portraits", "forget_20", 0, "forget_20, fold 0"),
        (ModelEntry(name="m", retain_only=str(tmp_path / "{split}")), "b", "strict", "forget_5", 0, "forget_5"),
    ):
        reason = find_twin(entry, benchmark, protocol, split, fold)
        assert isinstance(reason, str) and why in reason


def test_answers_about_other_questions() -> None:
    assert answered_sets({("forget", "1"): "x"}, {"forget": [Sample("Who?", answer="x", id="elsewhere/1")]}) == {}


def test_another_checkpoint_is_another_twin(tmp_path: Path) -> None:
    entry = ModelEntry(name="m", retain_only=str(tmp_path / "twin"))
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "config.json").write_text("{}")
    first = find_twin(entry, "b", "strict", "forget_5", 0)
    assert isinstance(first, Twin) and first.folder == tmp_path / "twin"
    (tmp_path / "twin" / "model.safetensors").write_text("weights")
    second = find_twin(entry, "b", "strict", "forget_5", 0)
    assert isinstance(second, Twin) and second.digest != first.digest
