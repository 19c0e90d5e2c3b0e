"""A small data set in the schema of MLLMU-Bench, made by hand."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

JOBS = ["baker", "pilot", "judge", "nurse"]
TOWNS = ["Rome", "Oslo", "Riga", "Bern"]
LETTERS = "ABCD"


class MemoryRows:
    """Rows that are already in memory."""

    def __init__(self, data: dict[str, list[dict[str, Any]]]) -> None:
        self.data, self.configs = data, tuple(data)

    def rows(self, config: str) -> list[dict[str, Any]]:
        return self.data[config]


def png(shade: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 255 - shade, 60)).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def biography(i: int) -> str:
    facts = {"Name": f"Person{i} Doe", "Occupation": JOBS[i % 4], "Residence": TOWNS[i % 4]}
    return json.dumps({**facts, "appearance_detail": "a pilot's cap"})


def tasks(i: int, name: str) -> dict[str, Any]:
    options = dict(zip(LETTERS, JOBS, strict=True))
    town = TOWNS[i % 4]
    choice = {"Options": options, "Correct_Answer": LETTERS[i % 4]}
    return {
        "Classification_Task": {
            "Image_Textual_Questions": [{"Question": "What is the job of this person?", **choice}],
            "Pure_Text_Questions": [{"Question": f"What is the job of {name}?", **choice}],
        },
        "Generation_Task": [
            {"Type": "Image_Textual", "Question": "Where do they live?", "Ground_Truth": f"In {town}."},
            {"Type": "Pure_Text", "Question": f"Where does {name} live?", "Ground_Truth": f"In {town}."},
        ],
        "Mask_Task": [
            {"Type": "Image_Textual", "Question": "They work as a __.", "Ground_Truth": JOBS[i % 4]},
            {"Type": "Pure_Text", "Question": f"{name} works as a __.", "Ground_Truth": JOBS[i % 4]},
        ],
    }  # fmt: skip


def evaluation_row(i: int, **extra: Any) -> dict[str, Any]:
    row = {"image": png(i), "ID": f"{i:03d}", "biography": biography(i), "question": "Who?", "answer": "x"}
    return {**row, **tasks(i, f"Person{i} Doe"), **extra}


def held_out_row(i: int) -> dict[str, Any]:
    row = {key: value for key, value in evaluation_row(i).items() if key != "image"}
    return {"images": [png(100 + i), png(200 + i)], **row}


def training_row(i: int) -> dict[str, Any]:
    turns = [
        {"Question": "What is the job of this person?", "Answer": f"They work as a {JOBS[i % 4]}."},
        {"Question": f"Where does Person{i} Doe live?", "Answer": f"They live in {TOWNS[i % 4]}."},
    ]
    return {"image": png(50 + i), "ID": f"{i:03d}", "metadata": json.dumps(turns)}


def flat_row(key: str, attribute: str | None, **extra: Any) -> dict[str, Any]:
    row = {
        "ID": key, "image": png(7), "question": "How many?", "answer": "There are three.",
        "task": "generation", "modality": "image", "attribute": attribute, "options": None,
        "keywords": ["three"],
    }  # fmt: skip
    return {**row, **extra}


def data_set(people: int = 20) -> dict[str, list[dict[str, Any]]]:
    rows = [evaluation_row(i) for i in range(people)]
    return {
        "Full_Set": rows,
        "Test_Set": [held_out_row(i) for i in range(people)],
        "Retain_Set": [evaluation_row(i) for i in range(2)],
        "ft_Data": [training_row(i) for i in range(people)],
        "forget_5": [rows[3]], "forget_10": [rows[3], rows[1]], "forget_15": [rows[3], rows[1], rows[8]],
        "retain_95": [r for i, r in enumerate(rows) if i != 3],
        "retain_90": [r for i, r in enumerate(rows) if i not in (1, 3)],
        "retain_85": [r for i, r in enumerate(rows) if i not in (1, 3, 8)],
        "holdout": [evaluation_row(50)],
        "general": [flat_row("G1", "count"), flat_row("G2", "count", modality="text")],
        "refusal": [
            flat_row("R1", "restricted", answer="Sorry, I cannot help with that.", keywords=[]),
            flat_row("R2", "benign", answer="You fold it.", keywords=["fold"]),
        ],
        "neighbours": [
            flat_row("004", "food", neighbour_of="003"),
            flat_row("005", "food", neighbour_of="001"),
        ],
    }  # fmt: skip
