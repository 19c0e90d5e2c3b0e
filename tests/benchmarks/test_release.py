"""Reading files in the published schema of MLLMU-Bench, and its sibling of training splits."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mllmu_release import (
    FORGET,
    NAMELESS,
    PEOPLE,
    TOWNS,
    TRAINING,
    evaluation,
    person_id,
    picture,
    shards,
    training,
    write_release,
    write_sibling,
)

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.benchmarks.mllmu import chosen_picture, evaluation_samples
from mllmeraser.benchmarks.rows import ParquetRows
from mllmeraser.samples import InputError, Sample

TEN = {
    "Full_Set", "Test_Set", "Retain_Set", "ft_Data", "forget_5", "forget_10", "forget_15",
    "retain_95", "retain_90", "retain_85",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "MLLMU-Bench")


@pytest.fixture(scope="module")
def release(folder: Path) -> Benchmark:
    return load_benchmark(str(folder))


def subjects(samples: list[Sample]) -> list[str | None]:
    return sorted({s.subject for s in samples}, key=str)


def test_all_ten_configs_and_the_table_of_sets(release: Benchmark) -> None:
    assert set(release.source.configs) == TEN
    assert release.splits == ("forget_5", "forget_10", "forget_15") and len(release.people) == PEOPLE
    assert list(release.sets("forget_10")) == ["forget", "test", "retain", "retain_heldout", "celebrity"]
    assert subjects(release.samples("celebrity")) == ["0100", "0101", "0102"]
    assert release.names["0003"] == ("Person3 Doe",)


@pytest.mark.parametrize("split", list(FORGET))
def test_ids_stay_text_and_counts_follow_the_lists(release: Benchmark, split: str) -> None:
    gone = [person_id(i) for i in sorted(FORGET[split])]
    forget, test = release.samples("forget", split), release.samples("test", split)
    assert subjects(forget) == subjects(test) == gone
    assert subjects(release.samples("retain", split)) == [
        person_id(i) for i in range(PEOPLE) if person_id(i) not in gone
    ]
    for sample in forget:
        i = int(sample.subject or "")
        assert sample.attribute == "residence"
        if sample.task == "classification":
            assert dict(sample.options)[sample.answer or ""] == TOWNS[i % 4]
        else:
            assert sample.keywords == (TOWNS[i % 4],)
    of_each = {task: sum(s.task == task for s in forget) for task in ("classification", "generation", "cloze")}
    assert of_each == {"classification": 10 * len(gone), "generation": 4 * len(gone), "cloze": 4 * len(gone)}
    # Every image item once per picture, every text item once.
    assert sum(s.task == "cloze" for s in test) == (2 * 4 + 2) * len(gone)


def test_lists_of_any_length(release: Benchmark) -> None:
    items = [s for s in release.samples("retain") if s.subject == "0004" and s.task == "classification"]
    assert len(items) == 12 and len({s.id for s in items}) == 12


def test_one_picture_per_row_by_id_and_seed(release: Benchmark) -> None:
    every = release.samples("retain_heldout")
    one = release.samples("retain_heldout", picture_seed=0)
    assert {s.id for s in one} < {s.id for s in every}
    assert [s.digest() for s in one] == [s.digest() for s in release.samples("retain_heldout", picture_seed=0)]
    assert [s.digest() for s in one] != [s.digest() for s in release.samples("retain_heldout", picture_seed=1)]
    shown = {s.subject: {t.image.tobytes() for t in one if t.image and t.subject == s.subject} for s in one}
    assert all(len(pictures) == 1 for pictures in shown.values())
    assert sum(s.task == "cloze" for s in one) == 4 * (PEOPLE - 1)
    drawn = [chosen_picture(person_id(i), 4) for i in range(400)]
    assert all(70 < drawn.count(k) < 130 for k in range(4))


@pytest.mark.parametrize("encode", [json.dumps, repr], ids=["json", "literal"])
def test_encoded_columns_and_items(encode: object) -> None:
    plain = evaluation(1)
    wanted = [(s.id, s.prompt, s.answer, s.keywords) for s in evaluation_samples(plain)]
    whole = {**plain, **{k: encode(plain[k]) for k in ("Classification_Task", "Generation_Task", "Mask_Task")}}  # type: ignore[operator]
    each = {**plain, "Mask_Task": [encode(item) for item in plain["Mask_Task"]]}  # type: ignore[operator]
    for row in (whole, each):
        assert [(s.id, s.prompt, s.answer, s.keywords) for s in evaluation_samples(row)] == wanted


def test_misspelt_modality_and_answers_with_their_letter() -> None:
    item = {"question": "Town?", "options": {"A": "Rome", "B": "Oslo"}, "answer": "B. Oslo, Norway"}
    row = {"ID": "0001", "image": picture(1), "Classify": repr({"muitimodal": {"q1": item}, "unimodal": {"q1": item}})}
    assert [(s.modality, s.answer) for s in evaluation_samples(row)] == [("image", "B"), ("text", "B")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Mask_Task": ["not an object"]}, "must be an object"),
        ({"Mask_Task": "[open('/etc/hosts')]"}, "neither JSON nor a Python literal"),
        ({"Classification_Task": None, "Generation_Task": None, "Mask_Task": None}, "none of the task columns"),
    ],
)
def test_rows_that_cannot_be_read_are_no_empty_sets(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluation_samples({**evaluation(1), **change})


def test_a_missing_shard_is_no_smaller_data_set(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "Test_Set" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(InputError, match=r"1 of 3 shards are missing, the first is train-00001-of-00003\.parquet"):
        load_benchmark(str(broken))


def test_training_splits_beside_the_data_set(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "MLLMU-Bench"))
    shutil.rmtree(root / "ft_Data")
    with pytest.raises(InputError, match="no config ft_Data .* nor baseline_train_split beside"):
        load_benchmark(str(root)).samples("train_forget")
    write_sibling(tmp_path / "baseline_train_split")
    found = load_benchmark(str(root))
    for split, gone in FORGET.items():
        assert subjects(found.samples("train_forget", split)) == [person_id(i) for i in sorted(gone)]
        assert len(subjects(found.samples("train_retain", split))) == PEOPLE - len(gone)
    assert len(subjects(found.samples("train"))) == PEOPLE
    assert found.request("forget_10").subjects[0].names
    given = load_benchmark(str(folder), training=str(tmp_path / "baseline_train_split"))
    assert subjects(given.samples("train_forget")) == ["0003"]


def test_training_rows_without_an_id_are_known_by_their_picture(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "MLLMU-Bench"))
    shutil.rmtree(root / "ft_Data")
    write_sibling(root / "baseline_train_split", NAMELESS)
    found = load_benchmark(str(root))
    sample = found.samples("train_forget", "forget_10")[0]
    assert (sample.subject, sample.keywords) == ("0003", (TOWNS[3],))
    assert len(subjects(found.samples("train_retain", "forget_10"))) == PEOPLE - 2
    shards(root / "baseline_train_split" / "forget_5", [{**training(3), "image": picture(77)}], NAMELESS)
    with pytest.raises(InputError, match="has no ID, and its picture shows no person of"):
        load_benchmark(str(root)).samples("train_forget", "forget_5")


def test_a_folder_in_training_form_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is in training form"):
        load_benchmark(str(write_sibling(tmp_path / "splits"))).samples("forget")


def test_numeric_ids_of_other_writers(tmp_path: Path) -> None:
    schema = pa.schema([("image", TRAINING.field("image").type), ("ID", pa.int64()), ("metadata", pa.string())])
    shards(tmp_path / "ft_Data", [{**training(i), "ID": i} for i in range(2)], schema)
    assert [row["ID"] for row in ParquetRows(tmp_path).rows("ft_Data")] == [0, 1]


def test_the_hub_is_asked_for_both_kinds_of_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def download(repository: str, repo_type: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, repo_type, revision))
        if repo_type == "dataset":
            raise LocalEntryNotFoundError("not there")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_benchmark("MLLMMU/MLLMU-Bench@v1").name == "MLLMMU/MLLMU-Bench"
    assert asked == [("MLLMMU/MLLMU-Bench", "dataset", "v1"), ("MLLMMU/MLLMU-Bench", "model", "v1")]
