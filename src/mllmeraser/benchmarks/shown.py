"""Pictures in requests about things: shipped ones to retain, and questions over pictures of a scene concept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from mllmeraser.knowledge.concepts import CONCEPTS, Concept, asked_scenes, scenes_of
from mllmeraser.knowledge.countries import Country
from mllmeraser.knowledge.flags import draw_flag
from mllmeraser.knowledge.wordings import COUNTRY, QUESTIONS, WHICH
from mllmeraser.portraits.general import SCENE_TOPICS
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import fill
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.expansion import views
from mllmeraser.samples.frames import framed
from mllmeraser.samples.hashing import hash64
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject

VIEWS = 4
"""Views of every picture of a request."""
DRAWN = 60
"""Drawn scenes of a concept that a request shows."""
OTHERS = 40
"""Retained scenes for each kind of question about them."""


def flags(countries: Sequence[Country], stream: Stream) -> list[Sample]:
    """Two questions over a view of each flag."""
    samples = []
    for country in countries:
        picture = Image.fromarray(draw_flag(country.key, stream.child(country.key)))
        attribute = stream.choice(tuple(QUESTIONS))
        text = fill(stream.choice(QUESTIONS[attribute]["train"]), stream.choice(WHICH["train"]))
        for question in (stream.choice(COUNTRY["train"]), text):
            samples.append(Sample(question, picture, subject=country.key, attribute=attribute))
    return samples


def scenes(gone: Sequence[Concept], stream: Stream) -> list[Sample]:
    """Questions about drawn scenes that neither name a forgotten concept nor have it as the answer.

    Some of the scenes show one all the same: a question about something beside it is no question about it.
    """
    samples = []
    for topic in SCENE_TOPICS:
        drawn = asked_scenes(stream, OTHERS, topic, "train", lambda _, q: not any(c.concerns(q) for c in gone))
        for number, (picture, question) in enumerate(drawn):
            # Each is a subject of its own, so that the scenes of one wording fall into all parts of a split.
            key = f"scene-{topic}-{number}"
            image = Image.fromarray(picture)
            samples.append(Sample(question.text, image, keywords=question.keywords, subject=key, attribute=topic))
    return samples


def scene_prompts(subject: Subject, concept: Concept, stream: Stream) -> Iterator[Sample]:
    """Each picture of a request about a scene concept under its own question, and shipped scenes that show it.

    A question over a scene fits no other scene, so pictures and questions are not crossed.
    """
    shown = [sample for sample in subject.samples if sample.image is not None]
    for number, sample in enumerate(shown):
        if sample.image is not None:
            for view in views(sample.image, VIEWS, hash64("scene", subject.key, number)):
                for text in stream.sample(framed(sample.question), 2):
                    yield Sample(text, view, subject=subject.key)
    for picture, question in scenes_of(concept, stream.child("drawn"), DRAWN if shown else 0, "train"):
        yield Sample(question.text, Image.fromarray(picture), subject=subject.key, attribute=concept.kind)


def require_pictures(subject: Subject, known: object, retain: Sequence[Sample]) -> None:
    """Refuse pictures without others to retain beside them.

    Raises:
        InputError: No retain sample has a picture, and the shipped ones are no measure for this subject.
    """
    if all(sample.image is None for sample in subject.samples):
        return
    shipped = not retain and (subject.kind in ("entity", "fact") or isinstance(known, Concept))
    if not shipped and all(sample.image is None for sample in retain):
        raise InputError(
            f"subject {subject.key}: it is shown in pictures, and no retained sample has one: give --retain with "
            "pictures that do not show it. The package has flags beside an entity or a fact, and drawn scenes beside "
            f"these concepts: {', '.join(concept.name for concept in CONCEPTS)}"
        )
