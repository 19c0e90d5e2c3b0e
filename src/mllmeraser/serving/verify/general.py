"""Prompts about nobody for a verification, in wordings of the pool `test`: scenes, portraits, small facts, emblems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mllmeraser.portraits.faces import draw_face, random_dress, random_pose
from mllmeraser.portraits.general import (
    PORTRAIT_TOPICS,
    PORTRAIT_WORDINGS,
    SCENE_TOPICS,
    portrait_question,
    scene_question,
    text_facts,
    text_question,
)
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.refusals import refusal_prompt
from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import emblem, random_scene
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.verify.held_back import POOL


def general_prompts(known: Sequence[Person], seed: int, n: int) -> list[Sample]:
    """`n` prompts: what scenes show, what portraits of retained people show, facts in text, how a badge is made."""
    stream, facts = Stream("verification", seed, "general"), text_facts()
    makers = (_scene, _portrait, _fact, _badge)
    samples = []
    for i in range(n):
        draw = stream.child(i)
        if makers[i % 4] is _portrait:
            samples.append(_portrait(draw, draw.choice(known)))
        elif makers[i % 4] is _fact:
            samples.append(_fact(draw, draw.choice(facts)))
        else:
            samples.append(_scene(draw) if makers[i % 4] is _scene else _badge(draw))
    return samples


def perception_prompts(pictures: Sequence[Image.Image], seed: int, n: int) -> list[Sample]:
    """At most `n` questions about what pictures show, every picture in turn."""
    stream = Stream("verification", seed, "perception")
    asked = [
        Sample(stream.choice(PORTRAIT_WORDINGS[topic][POOL]), picture, attribute="perception", id="perception")
        for topic in PORTRAIT_TOPICS
        for picture in pictures
    ]
    return asked[:n]


def _scene(draw: Stream) -> Sample:
    picture, scene = random_scene(draw.child("scene"), size=SIZE)
    for topic in draw.shuffle(SCENE_TOPICS):
        asked = scene_question(draw, scene, topic, POOL)
        if asked is not None:
            return _general(asked.text, picture)
    raise AssertionError("every scene has a number of shapes to ask for")


def _portrait(draw: Stream, person: Person) -> Sample:
    dress = random_dress(draw, celebrity=person.celebrity)
    topics = ("hair", "glasses") if person.celebrity else PORTRAIT_TOPICS
    asked = portrait_question(draw, person.looks, dress, draw.choice(topics), POOL)
    return _general(asked.text, draw_face(person.looks, dress, random_pose(draw), size=SIZE))


def _fact(draw: Stream, fact: tuple[str, str, str, str]) -> Sample:
    return _general(text_question(draw, fact, POOL).text, None)


def _badge(draw: Stream) -> Sample:
    image = draw.chance(0.5)
    prompt = refusal_prompt(draw.child("prompt"), restricted=draw.chance(0.5), image=image, pool=POOL)
    return _general(prompt.text, emblem(draw.child("emblem"), prompt.restricted, size=SIZE) if image else None)


def _general(question: str, picture: np.ndarray | None) -> Sample:
    return Sample(question, None if picture is None else Image.fromarray(picture), attribute="general", id="general")
