"""The benchmark `knowledge`: the record type of `portraits`, one subject a fold, disjoint wordings."""

from __future__ import annotations

import pytest

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.knowledge.rows import FOLDS, PRESETS
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.text import contains


@pytest.fixture(params=PRESETS, scope="module")
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """Every preset."""
    return load_benchmark(f"knowledge:{request.param}")


def test_every_fold_forgets_one_other_subject(benchmark: Benchmark) -> None:
    assert benchmark.folds == FOLDS
    gone = [benchmark.forget_ids("forget_1", fold) for fold in range(FOLDS)]
    assert all(len(keys) == 1 for keys in gone)
    assert len(set(gone)) == FOLDS


def test_sets_are_about_the_right_subjects(benchmark: Benchmark) -> None:
    (key,) = benchmark.forget_ids("forget_1", 2)
    for name, inside in (("test", True), ("forget", True), ("retain_heldout", False), ("neighbours", False)):
        samples = benchmark.samples(name, "forget_1", 2)
        assert samples, name
        assert {sample.subject == key for sample in samples} == {inside}, name


def test_no_scored_question_is_a_training_question(benchmark: Benchmark) -> None:
    trained = {sample.question for sample in benchmark.samples("train", "forget_1")}
    for name in ("test", "retain_heldout", "neighbours", "general", "forget"):
        assert not trained & {sample.question for sample in benchmark.samples(name, "forget_1")}, name


def test_every_gold_answer_counts_as_right(benchmark: Benchmark) -> None:
    for sample in benchmark.samples("test", "forget_1"):
        assert any(contains(sample.answer or "", key) for key in sample.keywords), sample
        assert not any(contains(sample.question, key) for key in sample.keywords), sample


def test_countries_are_asked_by_name_and_by_flag() -> None:
    samples = load_benchmark("knowledge:countries").samples("test", "forget_1", 0)
    assert {sample.modality for sample in samples} == {"image", "text"}
    assert {"identity", "capital"} <= {s.attribute for s in samples if s.image is not None}
    assert not any("Germany" in sample.question for sample in samples if sample.image is not None)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="countries, people, topics, concepts"):
        load_benchmark("knowledge:films")
