"""Verification prompts about no person, in wordings of the pool `test`: scenes, portraits, small facts, emblems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from mllmeraser.portraits import general
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.looks import random_dress, random_pose
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.refusals import refusal_prompt
from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import emblem, random_scene
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.verify.fresh_prompts import POOL


def general_prompts(known: Sequence[Person], seed: int, n: int) -> list[Sample]:
    """`n` prompts: what scenes show, what portraits of retained people show, facts in text, and badges."""
    stream, facts = Stream("verification", seed, "general"), general.text_facts()
    makers: tuple[Callable[[Stream], Sample], ...] = (
        _scene,
        lambda draw: _portrait(draw, draw.choice(known)),
        lambda draw: _sample(general.text_question(draw, draw.choice(facts), POOL).text, None),
        _badge,
    )
    return [makers[i % 4](stream.child(i)) for i in range(n)]


def perception_prompts(pictures: Sequence[Image.Image], seed: int, n: int) -> list[Sample]:
    """At most `n` questions about what pictures show, every picture in turn."""
    stream = Stream("verification", seed, "perception")
    prompts = [
        Sample(stream.choice(general.PORTRAIT_WORDINGS[topic][POOL]), image, attribute="perception", id="perception")
        for topic in general.PORTRAIT_TOPICS
        for image in pictures
    ]
    return prompts[:n]


def _scene(draw: Stream) -> Sample:
    picture, scene = random_scene(draw.child("scene"), size=SIZE)
    for topic in draw.shuffle(general.SCENE_TOPICS):
        question = general.scene_question(draw, scene, topic, POOL)
        if question is not None:
            return _sample(question.text, picture)
    raise AssertionError("every scene has a number of shapes to ask for")


def _portrait(draw: Stream, person: Person) -> Sample:
    dress = random_dress(draw, celebrity=person.celebrity)
    topics = ("hair", "glasses") if person.celebrity else general.PORTRAIT_TOPICS
    question = general.portrait_question(draw, person.looks, dress, draw.choice(topics), POOL)
    return _sample(question.text, draw_face(person.looks, dress, random_pose(draw), size=SIZE))


def _badge(draw: Stream) -> Sample:
    image = draw.chance(0.5)
    prompt = refusal_prompt(draw.child("prompt"), restricted=draw.chance(0.5), image=image, pool=POOL)
    return _sample(prompt.text, emblem(draw.child("emblem"), prompt.restricted, size=SIZE) if image else None)


def _sample(question: str, picture: np.ndarray | None) -> Sample:
    return Sample(question, None if picture is None else Image.fromarray(picture), attribute="general", id="general")
