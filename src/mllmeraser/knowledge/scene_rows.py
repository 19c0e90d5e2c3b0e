"""The preset `concepts` of the benchmark `knowledge`: shapes and colours in pictures, one forgotten a fold.

A question belongs to the concept that is its answer. One that names another concept ("Which shape is red?") is left
out wherever that one is forgotten (`also_about`): whether it should keep its answer is not clear. `neighbours` are
other shapes or colours *in pictures that show the forgotten one too*. `general` has the other questions about scenes,
small facts and world questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from mllmeraser.knowledge.concepts import CONCEPTS, Concept, asked_scenes, scenes_of
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.portraits.general import SCENE_TOPICS, Question, text_facts, text_question
from mllmeraser.portraits.rows import DrawnRows, Row, flat_row, png
from mllmeraser.portraits.scenes import Scene
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import Pool

ORDER = ("circle", "red", "square", "blue", "triangle", "green", "cross", "yellow", "ring", "purple")
"""The concepts of the folds."""
ASKED = {"train": 12, "validation": 6, "test": 12}
"""Pictures of each concept, each with one question, by pool."""
BESIDE = 4
"""Neighbouring questions for each other concept of the same kind."""
PER_TOPIC = 24


class SceneRows(DrawnRows):
    """Rows of every config, drawn at their first use; every row has one picture and one question."""

    def __init__(self, seed: int = 0) -> None:
        self.stream = Stream("knowledge", "concepts", seed)
        makers: dict[str, Callable[[], list[Row]]] = {
            "Full_Set": lambda: [row for concept in CONCEPTS for row in self._rows(concept, "validation")],
            "Test_Set": lambda: [row for concept in CONCEPTS for row in self._rows(concept, "test")],
            "ft_Data": lambda: [row for concept in CONCEPTS for row in self._rows(concept, "train")],
            "neighbours": self._neighbours,
            "general": self._general,
        }
        for fold, key in enumerate(ORDER):
            tail = f"_fold{fold}" if fold else ""
            makers["forget_1" + tail] = partial(self._some, key, True)
            makers["retain_99" + tail] = partial(self._some, key, False)
        super().__init__(makers)

    def _some(self, key: str, forget: bool) -> list[Row]:
        return [row for row in self.rows("Full_Set") if (row["ID"] == key) == forget]

    def _rows(self, concept: Concept, pool: Pool) -> Iterator[Row]:
        for picture, question in scenes_of(concept, self.stream.child(pool, concept.key), ASKED[pool], pool):
            row: Row = {"ID": concept.key, "image": png(picture), "also_about": also_about(question, concept)}
            item: Row = {"Type": "Image_Textual", "Question": question.text, "Attribute": concept.kind}
            if pool == "train":
                yield {**row, "metadata": json.dumps([{**item, "Answer": question.answer}])}
                continue
            item |= {"Ground_Truth": question.answer, "Keywords": list(question.keywords)}
            yield {**row, "biography": json.dumps({"Name": concept.name}), "Generation_Task": [item]}

    def _neighbours(self) -> list[Row]:
        rows = []
        for gone in (next(concept for concept in CONCEPTS if concept.key == key) for key in ORDER):
            for other in CONCEPTS:
                if other.kind != gone.kind or other == gone:
                    continue
                wanted = partial(_beside, other, gone)
                stream = self.stream.child("neighbour", gone.key, other.key)
                for picture, question in asked_scenes(stream, BESIDE, other.kind, "test", wanted):
                    rows.append(_flat(other.key, question, picture, neighbour_of=gone.key))
        return rows

    def _general(self) -> list[Row]:
        rows, kinds = [], {concept.kind for concept in CONCEPTS}
        for topic in SCENE_TOPICS:
            if topic not in kinds:
                stream = self.stream.child("general", topic)
                drawn = asked_scenes(stream, PER_TOPIC, topic, "test", lambda *_: True)
                rows += [_flat(f"G-{topic}-{i}", question, picture) for i, (picture, question) in enumerate(drawn)]
        for i, fact in enumerate(text_facts()):
            rows.append(_flat(f"G-text-{i}", text_question(self.stream.child("text", i), fact, "test")))
        for sample in world_questions():
            asked = Question(sample.question, sample.answer or "", sample.keywords, "general")
            rows.append(_flat(sample.id, asked))
        return rows


def also_about(question: Question, concept: Concept | None = None) -> list[str]:
    """Keys of the other concepts that a question or its answer names."""
    return [other.key for other in CONCEPTS if other != concept and other.concerns(question)]


def _beside(other: Concept, gone: Concept, scene: Scene, question: Question) -> bool:
    return other.name in question.keywords and gone.shown(scene) and not gone.concerns(question)


def _flat(key: str, question: Question, picture: np.ndarray | None = None, **extra: str) -> Row:
    image = None if picture is None else png(picture)
    row = flat_row(key, question.text, question.answer, image=image, attribute=question.category, **extra)
    return row | {"keywords": list(question.keywords), "also_about": also_about(question)}
