"""Rows in the schema of MLLMU-Bench.

The evaluation form is that of ``Full_Set``, ``forget_5`` and so on, the training form that of ``ft_Data``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.facts import other_values
from mllmeraser.portraits.looks import random_dress, random_pose
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.scenes import degrade
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import ANSWERS, IDENTITY, LETTERS, WHO_IMAGE, Pool, clozes, fill, questions

Row = dict[str, Any]
SIZE = 128
TEST_VIEWS = 2


class DrawnRows:
    """Rows by config; `makers` draw those of a config at its first use."""

    def __init__(self, makers: Mapping[str, Callable[[], list[Row]]]) -> None:
        self._makers = makers
        self._made: dict[str, list[Row]] = {}

    @property
    def configs(self) -> tuple[str, ...]:
        """Names of the configs."""
        return tuple(self._makers)

    def rows(self, config: str) -> list[Row]:
        """Rows of one config, as plain Python values."""
        if config not in self._made:
            self._made[config] = self._makers[config]()
        return self._made[config]


def png(picture: np.ndarray) -> dict[str, Any]:
    """The hub's image struct."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def portrait(person: Person, stream: Stream, *, rough: bool) -> np.ndarray:
    """A picture of a person; a ``rough`` one is degraded like a test view."""
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = draw_face(person.looks, dress, random_pose(stream), size=SIZE)
    return degrade(picture, stream) if rough else picture


def evaluation_row(person: Person, stream: Stream, pool: Pool, *, test: bool = False) -> Row:
    """One person in evaluation form, with ``images`` for a test row, else with ``image``."""
    row: Row = {"ID": person.key}
    if test:
        row["images"] = [png(portrait(person, stream.child("view", k), rough=True)) for k in range(TEST_VIEWS)]
    else:
        row["image"] = png(portrait(person, stream.child("view"), rough=False))
    row["biography"] = json.dumps({"Name": person.name, **{k.capitalize(): v for k, v in person.facts.items()}})
    row["question"], row["answer"] = stream.choice(IDENTITY[pool]), ANSWERS["identity"].format(value=person.name)
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
        others = iter(other_values(stream, attribute, value, 3))
        letter = LETTERS[(start + i) % 4]  # key positions are balanced over a person's items
        options = {key: value if key == letter else next(others) for key in LETTERS}
        question = fill(wording, _who(person, stream, pool, image))
        items.append({"Question": question, "Options": options, "Correct_Answer": letter, "Attribute": attribute})
    return items


def _open(person: Person, stream: Stream, pool: Pool, *, cloze: bool) -> list[Row]:
    items = []
    for image in (True, False):
        for attribute, value in person.facts.items():
            wording = stream.choice((clozes if cloze else questions)(attribute, pool))
            question = fill(wording, _who(person, stream, pool, image))
            truth = value if cloze else ANSWERS[attribute].format(value=value)
            kind = "Image_Textual" if image else "Pure_Text"
            items.append({"Type": kind, "Question": question, "Ground_Truth": truth, "Attribute": attribute})
    return items


def training_row(person: Person, stream: Stream) -> Row:
    """One person in training form: ``metadata`` is a JSON list of questions and answers."""
    turns = [{"Question": stream.choice(IDENTITY["train"]), "Answer": ANSWERS["identity"].format(value=person.name)}]
    for image in (True, False):
        for attribute, value in person.facts.items():
            who = _who(person, stream, "train", image)
            question = fill(stream.choice(questions(attribute, "train")), who)
            turns.append({"Question": question, "Answer": ANSWERS[attribute].format(value=value)})
    picture = png(portrait(person, stream.child("view"), rough=False))
    return {"image": picture, "ID": person.key, "metadata": json.dumps(turns)}


def flat_row(key: str, question: str, answer: str, **extra: Any) -> Row:
    """A row of the configs that MLLMU-Bench does not have."""
    row: Row = {"ID": key, "image": None, "question": question, "answer": answer, "task": "generation"}
    row |= {"attribute": None, "options": None, "keywords": []} | extra
    return row | {"modality": "text" if row["image"] is None else "image"}
