"""Parquet files in exactly the schema of MLLMU-Bench on the hub: ten configs, structs, JSON strings, shards."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PEOPLE = 20
TOWNS = ["Rome", "Oslo", "Riga", "Bern"]
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
OPTIONS = pa.struct([(letter, pa.string()) for letter in "ABCD"])
CHOICE = pa.struct([("Question", pa.string()), ("Options", OPTIONS), ("Correct_Answer", pa.string())])
OPEN = pa.struct([("Type", pa.string()), ("Question", pa.string()), ("Ground_Truth", pa.string())])
TASKS = [
    ("biography", pa.string()),
    ("question", pa.string()),
    ("answer", pa.string()),
    (
        "Classification_Task",
        pa.struct([("Image_Textual_Questions", pa.list_(CHOICE)), ("Pure_Text_Questions", pa.list_(CHOICE))]),
    ),
    ("Generation_Task", pa.list_(OPEN)),
    ("Mask_Task", pa.list_(OPEN)),
]
EVALUATION = pa.schema([("image", PICTURE), ("ID", pa.string()), *TASKS])
FULL = EVALUATION.append(pa.field("Directory", pa.string()))
TEST = pa.schema([("images", pa.list_(PICTURE)), ("ID", pa.string()), *TASKS])
TRAINING = pa.schema([("image", PICTURE), ("ID", pa.string()), ("metadata", pa.string())])
NAMELESS = pa.schema([("image", PICTURE), ("metadata", pa.string())])

FORGET = {"forget_5": [3], "forget_10": [3, 11], "forget_15": [3, 11, 7]}


def person_id(i: int) -> str:
    return f"{i:04d}"


def name(i: int) -> str:
    return f"Person{i} Doe"


def picture(*shade: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (shade[0] * 7 % 256, shade[-1] * 31 % 256, 60)).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": f"{shade[0]}.png"}


def evaluation(i: int) -> dict[str, Any]:
    town = TOWNS[i % 4]
    facts = {"Name": name(i), "Residence": town, "Employment": f"guild {i}", "appearance_detail": f"hat from {town}"}

    def choices(who: str) -> list[dict[str, Any]]:
        # One more than the real five for every fourth person: lists have no fixed length.
        return [
            {
                "Question": f"Town of {who}, question {k}?",
                "Options": dict(zip("ABCD", TOWNS, strict=True)),
                "Correct_Answer": "ABCD"[i % 4],
            }
            for k in range(6 if i % 4 == 0 else 5)
        ]

    def opened(text: str, gold: str) -> list[dict[str, str]]:
        kinds = [("Image_Textual", "this person"), ("Pure_Text", name(i))]
        return [
            {"Type": kind, "Question": f"{k}: {text.format(who=who)}", "Ground_Truth": gold}
            for kind, who in kinds
            for k in range(2)
        ]

    return {
        "image": picture(i),
        "ID": person_id(i),
        "Directory": f"faces/{i}",
        "biography": json.dumps(facts),
        "question": "Where?",
        "answer": f"In {town}.",
        "Classification_Task": {
            "Image_Textual_Questions": choices("this person"),
            "Pure_Text_Questions": choices(name(i)),
        },
        "Generation_Task": opened("Where does {who} live?", f"They live in {town}."),
        "Mask_Task": opened("{who} lives in __.", town),
    }


def held_out(i: int) -> dict[str, Any]:
    return {**evaluation(i), "images": [picture(i, 50 + k) for k in range(4)]}


def training(i: int) -> dict[str, Any]:
    turns = [{"Question": "Where does this person live?", "Answer": f"They live in {TOWNS[i % 4]}."}]
    return {"image": picture(i), "ID": person_id(i), "metadata": json.dumps(turns)}


def shards(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema, count: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // count)
    for k in range(count):
        part = [{key: row[key] for key in schema.names} for row in rows[k * size : (k + 1) * size]]
        pq.write_table(pa.Table.from_pylist(part, schema), folder / f"train-{k:05d}-of-{count:05d}.parquet")


def write_release(root: Path) -> Path:
    """The ten configs in a folder."""
    everybody = range(PEOPLE)
    rows = [evaluation(i) for i in everybody]
    shards(root / "Full_Set", rows, FULL, 2)
    shards(root / "Test_Set", [held_out(i) for i in everybody], TEST, 3)
    shards(root / "Retain_Set", [evaluation(100 + i) for i in range(3)], EVALUATION)
    shards(root / "ft_Data", [training(i) for i in everybody], TRAINING)
    for split, gone in FORGET.items():
        shards(root / split, [rows[i] for i in gone], EVALUATION)
        kept = [row for i, row in enumerate(rows) if i not in gone]
        shards(root / f"retain_{100 - int(split[7:])}", kept, EVALUATION)
    return root


def write_sibling(root: Path, schema: pa.Schema = TRAINING) -> Path:
    """The training form by split, as `baseline_train_split` has it."""
    for split, gone in FORGET.items():
        shards(root / split, [training(i) for i in gone], schema)
        kept = [training(i) for i in range(PEOPLE) if i not in gone]
        shards(root / f"retain_{100 - int(split[7:])}", kept, schema)
    return root
