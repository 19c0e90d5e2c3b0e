"""Sets, splits and folds of a data set; folders, shards and names."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mllmu_rows import JOBS, MemoryRows, data_set

from mllmeraser.benchmarks import Benchmark, load_benchmark, thin
from mllmeraser.samples import InputError, Sample


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return Benchmark("small", MemoryRows(data_set()))


def subjects(samples: list[Sample]) -> set[str | None]:
    return {sample.subject for sample in samples}


def test_sets_partition_people(benchmark: Benchmark) -> None:
    everybody = set(benchmark.people)
    assert len(everybody) == 20
    for split in benchmark.splits:
        gone = set(benchmark.forget_ids(split))
        for forget, retain in (
            ("forget", "retain"),
            ("test", "retain_heldout"),
            ("train_forget", "train_retain"),
        ):
            assert subjects(benchmark.samples(forget, split)) == gone
            assert subjects(benchmark.samples(retain, split)) == everybody - gone


def test_ids_are_unique_within_a_set_and_stable_across_splits(benchmark: Benchmark) -> None:
    for name in ("forget", "test", "retain", "train", "celebrity", "general"):
        ids = [s.id for s in benchmark.samples(name, "forget_10")]
        assert len(ids) == len(set(ids)) > 0
    small = {s.id: s.digest() for s in benchmark.samples("forget", "forget_5")}
    large = {s.id: s.digest() for s in benchmark.samples("forget", "forget_15")}
    assert small.items() <= large.items()


def test_folds_are_nested_and_disjoint(benchmark: Benchmark) -> None:
    assert benchmark.folds == 6
    seen: set[str] = set()
    for fold in range(benchmark.folds):
        small, middle, large = (set(benchmark.forget_ids(split, fold)) for split in benchmark.splits)
        assert small < middle < large and len(large) == 3
        assert not seen & large
        seen |= large
        assert subjects(benchmark.samples("retain", "forget_15", fold)) == set(benchmark.people) - large
    with pytest.raises(InputError, match="folds: 0 to 5"):
        benchmark.forget_ids("forget_5", 6)


def test_a_published_fold_wins() -> None:
    data = data_set()
    data["forget_5_fold1"] = [data["Full_Set"][17]]
    assert Benchmark("b", MemoryRows(data)).forget_ids("forget_5", 1) == ("017",)


def test_values_names_and_vocabulary(benchmark: Benchmark) -> None:
    assert sorted(benchmark.values["occupation"]) == sorted(JOBS)
    assert benchmark.names["003"] == ("Person3 Doe",)
    assert "appearance_detail" not in benchmark.values
    assert {"baker", "three", "rome", "person3"} <= benchmark.vocabulary


def test_sets_of_the_score_table_are_those_the_data_has(benchmark: Benchmark) -> None:
    sets = benchmark.sets("forget_5")
    assert list(sets) == [
        "forget", "test", "retain", "retain_heldout", "celebrity", "general", "holdout",
    ]  # fmt: skip
    assert all(sets.values())
    with pytest.raises(InputError, match="no config perception"):
        benchmark.samples("perception")


def test_refusal_and_neighbours(benchmark: Benchmark) -> None:
    assert [s.attribute for s in benchmark.samples("refusal")] == ["restricted", "benign"]
    assert [s.subject for s in benchmark.samples("benign")] == ["R2"]
    assert [s.subject for s in benchmark.samples("neighbours", "forget_5")] == ["004"]
    assert [s.subject for s in benchmark.samples("neighbours", "forget_10")] == ["004", "005"]


def test_training_samples_know_the_facts_of_their_person(benchmark: Benchmark) -> None:
    job, town = benchmark.samples("train_forget", "forget_5")
    assert (job.attribute, job.keywords, job.modality) == ("occupation", ("nurse",), "image")
    assert (town.attribute, town.keywords, town.modality) == ("residence", ("Bern",), "text")


def test_request_is_made_of_training_prompts_with_names(benchmark: Benchmark) -> None:
    request = benchmark.request("forget_10")
    assert [(s.key, s.names) for s in request.subjects] == [
        ("001", ("Person1 Doe",)),
        ("003", ("Person3 Doe",)),
    ]
    assert {s.digest() for s in request.forget} == {s.digest() for s in benchmark.samples("train_forget", "forget_10")}
    assert len(request.retain) == 36


def test_folder_of_sharded_parquet_reads_like_memory(tmp_path: Path, benchmark: Benchmark) -> None:
    for config, rows in data_set().items():
        folder = tmp_path / config
        folder.mkdir()
        half = max(1, len(rows) // 2)
        shards = [part for part in (rows[:half], rows[half:]) if part]
        for number, part in enumerate(shards):
            name = f"train-{number:05d}-of-{len(shards):05d}.parquet"
            pq.write_table(pa.Table.from_pylist(part), folder / name)
    loaded = load_benchmark(str(tmp_path))
    assert loaded.name == tmp_path.name
    for name in ("forget", "test", "retain", "celebrity", "holdout", "general", "refusal", "train"):
        left, right = loaded.samples(name, "forget_10"), benchmark.samples(name, "forget_10")
        assert [s.digest() for s in left] == [s.digest() for s in right]
        assert [(s.id, s.answer, s.keywords) for s in left] == [(s.id, s.answer, s.keywords) for s in right]


def test_questions_of_foreign_data_get_a_format_line() -> None:
    data = {k: v for k, v in data_set().items() if k not in ("general", "holdout")}
    foreign = Benchmark("foreign", MemoryRows(data))
    assert foreign.prompts == "instructed"
    assert foreign.samples("forget")[2].question.endswith("Answer in one sentence.")


@pytest.mark.parametrize("name", ["nowhere", "portrait:dev", "./gone", "a/b/c", ""])
def test_unknown_benchmark(name: str) -> None:
    with pytest.raises(InputError, match=r"no such benchmark; give knowledge:<preset>, portraits:<preset>") as error:
        load_benchmark(name)
    assert "\n" not in str(error.value)


def test_a_hub_data_set_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="nobody/nothing: the data set cannot be downloaded") as error:
        load_benchmark("nobody/nothing@v1")
    assert "\n" not in str(error.value)


def test_folder_without_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no parquet files"):
        load_benchmark(str(tmp_path))


def test_unknown_set_and_split(benchmark: Benchmark) -> None:
    with pytest.raises(InputError, match="known sets: forget, test"):
        benchmark.samples("train_all")
    with pytest.raises(InputError, match="splits: forget_5, forget_10, forget_15"):
        benchmark.samples("forget", "forget_20")


def test_thin_takes_many_people_before_many_items(benchmark: Benchmark) -> None:
    samples = benchmark.samples("retain", "forget_5")
    few = thin([*samples, *(s for s in samples if s.subject == "000")], 5)
    assert len(few) == 5 * 6
    for cell in {(s.task, s.modality) for s in few}:
        assert len({s.subject for s in few if (s.task, s.modality) == cell}) == 5


def test_biography_as_free_text_is_no_error() -> None:
    data = data_set()
    data["forget_5"][0]["biography"] = "She was born long ago."
    sample = Benchmark("b", MemoryRows(data)).samples("forget")[4]
    assert sample.keywords == ("nurse",)
    data["forget_5"][0]["biography"] = json.dumps("text in quotes")
    assert Benchmark("b", MemoryRows(data)).samples("forget")


def test_thin_asks_about_everything() -> None:
    samples = load_benchmark("portraits:dev").samples("retain_heldout")
    few = thin(samples, 24)
    assert len({s.subject for s in few}) == 24
    for cell in {(s.task, s.modality) for s in few}:
        asked = Counter(s.attribute for s in few if (s.task, s.modality) == cell)
        assert len(asked) == 6 and set(asked.values()) == {4}


def test_thin_asks_people_from_everywhere() -> None:
    samples = load_benchmark("portraits:dev").samples("retain_heldout")
    order = list(dict.fromkeys(s.subject for s in samples))
    for count in (12, 24, 60):
        asked = sorted({order.index(s.subject) for s in thin(samples, count)})
        steps = [b - a for a, b in zip([-1, *asked], [*asked, len(order)], strict=True)]
        assert len(asked) == count and max(steps) <= 3 * len(order) / count
