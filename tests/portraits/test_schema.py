"""The rows: the schema of MLLMU-Bench, the right answers, and the same Samples from memory as from files."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mllmeraser.benchmarks import SETS, load_benchmark
from mllmeraser.portraits import Configs, World, write
from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.people import SPLITS
from mllmeraser.portraits.wordings import ANSWERS
from mllmeraser.samples import Sample

EVALUATION = [
    "Full_Set",
    "Test_Set",
    "Retain_Set",
    *(f"forget_{n}" for n in SPLITS),
    *(f"retain_{100 - n}" for n in SPLITS),
]
CONFIGS = [*EVALUATION, "ft_Data"]
CHOICE_TASKS = ("Image_Textual_Questions", "Pure_Text_Questions")
OPEN_TASKS = ("Generation_Task", "Mask_Task")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written") / "unit", "unit", 0)


def schema(folder: Path, config: str) -> pa.Schema:
    return pq.read_schema(folder / config / "train-00000-of-00001.parquet")


def is_picture(kind: pa.DataType) -> bool:
    return {field.name for field in kind} == {"bytes", "path"} and kind.field("bytes").type == pa.binary()


def items_of(kind: pa.DataType) -> set[str]:
    assert pa.types.is_list(kind)
    return {field.name for field in kind.value_type}


@pytest.mark.parametrize("config", EVALUATION)
def test_columns_of_the_evaluation_form(folder: Path, config: str) -> None:
    found = schema(folder, config)
    if config == "Test_Set":
        assert pa.types.is_list(found.field("images").type) and is_picture(found.field("images").type.value_type)
    else:
        assert is_picture(found.field("image").type)
    for name in ("ID", "biography", "question", "answer"):
        assert found.field(name).type == pa.string()
    choices = found.field("Classification_Task").type
    for task in CHOICE_TASKS:
        assert items_of(choices.field(task).type) >= {"Question", "Options", "Correct_Answer"}
        options = choices.field(task).type.value_type.field("Options").type
        assert [(field.name, field.type) for field in options] == [(letter, pa.string()) for letter in "ABCD"]
    for task in OPEN_TASKS:
        assert items_of(found.field(task).type) >= {"Type", "Question", "Ground_Truth"}


def test_columns_of_the_training_form(folder: Path) -> None:
    found = schema(folder, "ft_Data")
    assert is_picture(found.field("image").type) and found.field("metadata").type == pa.string()
    for row in pq.read_table(folder / "ft_Data").to_pylist():
        turns = json.loads(row["metadata"])
        assert turns and all(set(turn) == {"Question", "Answer"} for turn in turns)


def test_a_row_for_everybody(configs: Configs, world: World) -> None:
    people = [p.key for p in world.people]
    for config in ("Full_Set", "Test_Set", "ft_Data"):
        assert [row["ID"] for row in configs.rows(config)] == people
    assert [row["ID"] for row in configs.rows("Retain_Set")] == [p.key for p in world.celebrities]
    assert [row["ID"] for row in configs.rows("holdout")] == [p.key for p in world.holdout]
    for fold in range(world.size.folds):
        tail = f"_fold{fold}" if fold else ""
        for n in SPLITS:
            forget = [row["ID"] for row in configs.rows(f"forget_{n}{tail}")]
            retain = [row["ID"] for row in configs.rows(f"retain_{100 - n}{tail}")]
            assert forget == [p.key for p in world.forget(n, fold)]
            assert sorted(forget + retain) == people


def evaluation_rows(configs: Configs, world: World) -> Iterator[tuple[Row, dict[str, str], str]]:
    for config, people in (
        ("Full_Set", world.people),
        ("Test_Set", world.people),
        ("Retain_Set", world.celebrities),
        ("holdout", world.holdout),
    ):
        for row, person in zip(configs.rows(config), people, strict=True):
            yield row, person.facts, person.name


def test_answers_are_the_facts(configs: Configs, world: World) -> None:
    for row, facts, name in evaluation_rows(configs, world):
        told = json.loads(row["biography"])
        assert told == {"Name": name, **{key.capitalize(): value for key, value in facts.items()}}
        assert row["answer"] == f"This is {name}."
        for task in CHOICE_TASKS:
            items = row["Classification_Task"][task]
            assert [item["Attribute"] for item in items] == list(facts)
            for item in items:
                assert item["Options"][item["Correct_Answer"]] == facts[item["Attribute"]]
                assert len(set(item["Options"].values())) == 4
                assert set(item["Options"].values()) <= set(VALUES[item["Attribute"]])
        for task in OPEN_TASKS:
            for item in row[task]:
                value = facts[item["Attribute"]]
                sentence = ANSWERS[item["Attribute"]].format(value=value)
                assert item["Ground_Truth"] == (value if task == "Mask_Task" else sentence)
                assert ("__" in item["Question"]) == (task == "Mask_Task")
                assert (name in item["Question"]) == (item["Type"] == "Pure_Text")


def test_key_positions_are_balanced(configs: Configs, world: World) -> None:
    """Always answering one letter scores no better than chance, also for one person."""
    total: Counter[str] = Counter()
    for row, facts, _ in evaluation_rows(configs, world):
        for task in CHOICE_TASKS:
            keys = Counter({letter: 0 for letter in "ABCD"})
            keys.update(item["Correct_Answer"] for item in row["Classification_Task"][task])
            assert max(keys.values()) - min(keys.values()) <= (len(facts) % 4 > 0)
            total += keys
    assert max(total.values()) / total.total() < 0.3


def test_pictures_are_rgb_and_differ(configs: Configs) -> None:
    seen = set()
    for config in ("Full_Set", "Test_Set", "ft_Data"):
        for row in configs.rows(config):
            for struct in row.get("images") or [row["image"]]:
                picture = Image.open(io.BytesIO(struct["bytes"]))
                assert (picture.mode, picture.size) == ("RGB", (128, 128))
                seen.add(picture.tobytes())
    assert len(seen) == 24 * (1 + 2 + 1)


def plain(sample: Sample) -> tuple[Sample, str]:
    return replace(sample, image=None), sample.digest()


@pytest.mark.parametrize(("split", "fold"), [("forget_5", 0), ("forget_15", 1)])
def test_files_give_the_samples_of_memory(folder: Path, split: str, fold: int) -> None:
    drawn, read = load_benchmark("portraits:unit"), load_benchmark(str(folder))
    assert (read.splits, read.folds, set(read.people)) == (drawn.splits, drawn.folds, set(drawn.people))
    assert read.names == drawn.names and read.values == drawn.values
    assert read.forget_ids(split, fold) == drawn.forget_ids(split, fold)
    for name in SETS:
        from_files = [plain(sample) for sample in read.samples(name, split, fold)]
        assert from_files or (name, fold) == ("neighbours", 1)  # those are neighbours of fold 0
        assert from_files == [plain(sample) for sample in drawn.samples(name, split, fold)], name


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        write(tmp_path / "full", "unit")
    with pytest.raises(ValueError, match="unknown preset"):
        write(tmp_path / "new", "huge")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "mine.txt"]
