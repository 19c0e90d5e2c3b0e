"""Scene concepts: the shapes and colours of drawn scenes, with questions over pictures in the words of `portraits`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from mllmeraser.portraits.general import Question, scene_question
from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import COLOURS, SHAPES, Scene, random_scene, random_things
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import Pool
from mllmeraser.samples.names import holds_name

Wanted = Callable[[Scene, Question], bool]


@dataclass(frozen=True)
class Concept:
    """A shape or a colour; `kind` is the topic of `scene_question` that asks for it."""

    name: str
    kind: str

    @property
    def key(self) -> str:
        """Its key in the benchmark."""
        return self.name

    @property
    def facts(self) -> Mapping[str, tuple[str, ...]]:
        """It has no questions without a picture."""
        return {}

    def shown(self, scene: Scene) -> bool:
        """Whether a scene has it."""
        return any(getattr(thing, self.kind) == self.name for thing in scene.objects)

    def concerns(self, question: Question) -> bool:
        """Whether it is the answer, or named in the question."""
        return self.name in question.keywords or holds_name(question.text, self.name)


CONCEPTS = (*(Concept(name, "shape") for name in SHAPES), *(Concept(name, "colour") for name in COLOURS))


def asked_scenes(
    stream: Stream, n: int, topic: str, pool: Pool, wanted: Wanted
) -> Iterator[tuple[np.ndarray, Question]]:
    """`n` drawn scenes, uint8 `(SIZE, SIZE, 3)`, each with a question on this topic that is `wanted`."""
    return islice(_asked_scenes(stream, topic, pool, wanted), n)


def _asked_scenes(stream: Stream, topic: str, pool: Pool, wanted: Wanted) -> Iterator[tuple[np.ndarray, Question]]:
    for number in count():
        draw = stream.child(topic, number)
        scene = random_things(draw.child("scene"))
        question = scene_question(draw, scene, topic, pool)
        if question is not None and wanted(scene, question):
            yield random_scene(draw.child("scene"), SIZE)[0], question


def scenes_of(concept: Concept, stream: Stream, n: int, pool: Pool) -> Iterator[tuple[np.ndarray, Question]]:
    """Scenes with questions that have the concept as their answer."""
    return asked_scenes(stream, n, concept.kind, pool, lambda _, question: concept.name in question.keywords)
