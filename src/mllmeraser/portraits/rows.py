"""Rows in the schema of MLLMU-Bench.

The evaluation form is that of ``Full_Set``, ``forget_5`` and so on, the training form that of ``ft_Data``.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from PIL import Image

from mllmeraser.portraits.faces import draw_face, random_dress, random_pose
from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.scenes import degrade
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import (
    ANSWERS,
    IDENTITY,
    LETTERS,
    UNKNOWN_ANSWER,
    WHO_IMAGE,
    Pool,
    clozes,
    fill,
    questions,
)

Row = dict[str, Any]
SIZE = 128
TEST_VIEWS = 2


def png(picture: np.ndarray) -> dict[str, Any]:
    """The hub's image struct."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def portrait(person: Person, stream: Stream, *, rough: bool) -> np.ndarray:
    """A picture of a person; ``rough`` ones are degraded as test views are (blur, crop, rotation, colour)."""
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = draw_face(person.looks, dress, random_pose(stream), size=SIZE)
    return degrade(picture, stream) if rough else picture


def evaluation_row(person: Person, stream: Stream, pool: Pool, *, test: bool = False) -> Row:
    """One person in evaluation form; a test row holds ``images``, another row ``image``."""
    row: Row = {"ID": person.key}
    if test:
        row["images"] = [png(portrait(person, stream.child("view", k), rough=True)) for k in range(TEST_VIEWS)]
    else:
        row["image"] = png(portrait(person, stream.child("view"), rough=False))
    row["biography"] = json.dumps({"Name": person.name, **{k.capitalize(): v for k, v in person.facts.items()}})
    row["question"] = stream.choice(IDENTITY[pool])
    row["answer"] = ANSWERS["identity"].format(value=person.name)
    row["Classification_Task"] = {
        "Image_Textual_Questions": _choices(person, stream.child("choice-image"), pool, image=True),
        "Pure_Text_Questions": _choices(person, stream.child("choice-text"), pool, image=False),
    }
    row["Generation_Task"] = _open(person, stream.child("generation"), pool, cloze=False)
    row["Mask_Task"] = _open(person, stream.child("cloze"), pool, cloze=True)
    return row


def _who(person: Person, stream: Stream, pool: Pool, image: bool) -> str:
    return stream.choice(WHO_IMAGE[pool]) if image else person.name


def _choices(person: Person, stream: Stream, pool: Pool, *, image: bool) -> list[Row]:
    items = []
    start = stream.integer(4)
    for i, (attribute, value) in enumerate(person.facts.items()):
        wording = stream.choice(questions(attribute, pool))
        others = stream.sample([v for v in VALUES[attribute] if v != value], 3)
        letter = LETTERS[(start + i) % 4]  # key positions are balanced over a person's items
        rest = iter(others)
        options = {key: value if key == letter else next(rest) for key in LETTERS}
        items.append(
            {
                "Question": fill(wording, _who(person, stream, pool, image)),
                "Options": options,
                "Correct_Answer": letter,
                "Attribute": attribute,
            }
        )
    return items


def _open(person: Person, stream: Stream, pool: Pool, *, cloze: bool) -> list[Row]:
    items = []
    for image in (True, False):
        for attribute, value in person.facts.items():
            wording = stream.choice((clozes if cloze else questions)(attribute, pool))
            items.append(
                {
                    "Type": "Image_Textual" if image else "Pure_Text",
                    "Question": fill(wording, _who(person, stream, pool, image)),
                    "Ground_Truth": value if cloze else ANSWERS[attribute].format(value=value),
                    "Attribute": attribute,
                }
            )
    return items


def training_row(person: Person, stream: Stream) -> Row:
    """One person in training form: ``metadata`` is a JSON list of questions and answers."""
    turns = [{"Question": stream.choice(IDENTITY["train"]), "Answer": ANSWERS["identity"].format(value=person.name)}]
    for image in (True, False):
        for attribute, value in person.facts.items():
            who = _who(person, stream, "train", image)
            turns.append(
                {
                    "Question": fill(stream.choice(questions(attribute, "train")), who),
                    "Answer": ANSWERS[attribute].format(value=value),
                }
            )
    return {
        "image": png(portrait(person, stream.child("view"), rough=False)),
        "ID": person.key,
        "metadata": json.dumps(turns),
    }


def flat_row(key: str, question: str, answer: str, **extra: Any) -> Row:
    """A row of the configs that MLLMU-Bench does not have."""
    row: Row = {
        "ID": key, "image": None, "question": question, "answer": answer, "task": "generation", "attribute": None,
        "options": None, "keywords": [],
    }  # fmt: skip
    row.update(extra)
    row["modality"] = "text" if row["image"] is None else "image"
    return row


__all__ = ["UNKNOWN_ANSWER", "Row", "evaluation_row", "flat_row", "png", "portrait", "training_row"]
