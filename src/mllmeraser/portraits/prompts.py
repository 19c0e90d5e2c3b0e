"""The default retain samples, with answers that an eraser must not change, and samples of unknown people.

The generator of the world draws them in wordings of the pool ``train``. Training, validation and test pictures come
from other streams, so a fit never sees a scored prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from mllmeraser.portraits import general as knowledge
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.facts import other_values
from mllmeraser.portraits.general import PORTRAIT_TOPICS, PORTRAIT_WORDINGS, SCENE_TOPICS
from mllmeraser.portraits.looks import Looks, random_dress, random_pose
from mllmeraser.portraits.people import Person, World, strangers
from mllmeraser.portraits.refusals import COMPLY, refusal_prompt
from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import degrade, emblem, random_scene
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
from mllmeraser.samples.sample import Sample, Task

FORMS: tuple[Task, ...] = ("generation", "cloze", "classification")
POOL: Pool = "train"


def default_retain(
    world: World, *, exclude: Collection[str] = (), per_person: int = 14, general: int = 300
) -> list[Sample]:
    """Prompts about the people and celebrities of the world, and general prompts.

    Args:
        world: The world.
        exclude: Names of people to leave out, because a request forgets them.
        per_person: Prompts for each person: half over a picture, half by name, every form of question.
        general: Prompts about scenes, unknown portraits, emblems, and small facts in text.
    """
    stream = world.stream.child("default-retain")
    gone = {name.casefold() for name in exclude}
    known = [p for p in [*world.people, *world.celebrities] if p.name.casefold() not in gone]
    samples = [s for p in known for s in person_prompts(p, stream.child(p.key), per_person, answered=True)]
    samples += general_prompts(stream.child("general"), world, known, general)
    crowd = strangers(stream.child("strangers"), world)
    for i in range(max(1, general // 4)):  # the answer about a stranger must stay "unknown"
        samples += person_prompts(next(crowd), stream.child("stranger", i), 2, answered=False)
    return samples


def default_strangers(world: World, n: int = 400) -> list[Sample]:
    """About ``n`` prompts about people outside the training data, every form of question."""
    stream = world.stream.child("default-strangers")
    crowd = strangers(stream.child("people"), world)
    return [s for i in range(max(1, n // 4)) for s in person_prompts(next(crowd), stream.child(i), 4, answered=False)]


def person_prompts(person: Person, stream: Stream, n: int, *, answered: bool) -> list[Sample]:
    """``n`` prompts about one person, by picture and by name in turn; with ``answered``, the true answer."""
    attributes = stream.shuffle(tuple(person.facts))
    forms = stream.shuffle(FORMS)
    samples = []
    for i in range(n):
        image = _portrait(person, stream.child("picture", i)) if i % 2 == 0 else None
        form, attribute = forms[(i // 2) % 3], attributes[(i // 2) % len(attributes)]
        samples.append(_person_sample(person, stream.child(i), form, attribute, image, answered=answered))
    if n >= 6:
        answer = ANSWERS["identity"].format(value=person.name) if answered else UNKNOWN_ANSWER
        question, about = stream.choice(IDENTITY[POOL]), person.key
        samples[0] = Sample(
            question, samples[0].image, answer, subject=about, attribute="identity", keywords=(person.name,)
        )
    return samples


def request_pictures(world: World, key: str, n: int) -> list[Image.Image]:
    """``n`` pictures of a person for a request; no score uses them."""
    person = next(p for p in [*world.people, *world.celebrities] if p.key == key)
    return pictures_of(person, world.stream.child("request", key), n)


def pictures_of(person: Person, stream: Stream, n: int) -> list[Image.Image]:
    """``n`` pictures of a person, each in other clothes and another pose."""
    return [_portrait(person, stream.child(i)) for i in range(n)]


def _portrait(person: Person, stream: Stream) -> Image.Image:
    """A picture from a stream without draws yet."""
    return _drawn(person.looks, person.celebrity, stream.path)


@lru_cache(maxsize=3072)
def _drawn(looks: Looks, celebrity: bool, path: tuple[str | int, ...]) -> Image.Image:
    """One fit asks for the default pictures twice: for its basis, and for the request without its own people."""
    stream = Stream(*path)
    dress = random_dress(stream, celebrity=celebrity)
    picture = draw_face(looks, dress, random_pose(stream), size=SIZE)
    return Image.fromarray(degrade(picture, stream) if stream.chance(0.5) else picture)


def _person_sample(
    person: Person, stream: Stream, form: Task, attribute: str, image: Image.Image | None, *, answered: bool
) -> Sample:
    who = stream.choice(WHO_IMAGE[POOL]) if image is not None else person.name
    value = person.facts[attribute]
    wording = stream.choice((clozes if form == "cloze" else questions)(attribute, POOL))
    options: tuple[tuple[str, str], ...] = ()
    answer = value if form == "cloze" else ANSWERS[attribute].format(value=value)
    if form == "classification":
        choices = stream.shuffle([value, *other_values(stream, attribute, value, 3)])
        options, answer = tuple(zip(LETTERS, choices, strict=True)), LETTERS[choices.index(value)]
    answer, keywords = (answer, (value,)) if answered else (UNKNOWN_ANSWER, ())
    return Sample(fill(wording, who), image, answer, form, options, keywords, person.key, attribute=attribute)


def general_prompts(stream: Stream, world: World, known: Sequence[Person], n: int) -> list[Sample]:
    """About ``n`` prompts without identities: scenes, looks of portraits, emblems, text facts, a quarter each."""
    crowd, facts, samples = strangers(stream.child("crowd"), world), knowledge.text_facts(), []
    for i in range(n // 4):
        draw = stream.child(i)
        picture, scene = random_scene(draw.child("scene"), size=SIZE)
        question = knowledge.scene_question(draw, scene, draw.choice(SCENE_TOPICS), POOL)
        if question is not None:
            samples.append(_general(question.text, question.answer, picture))
        person = draw.choice(known) if i % 2 else next(crowd)
        samples.append(_perceived(person, draw.child("face")))
        question = knowledge.text_question(draw, draw.choice(facts), POOL)
        samples.append(_general(question.text, question.answer, None))
        image = draw.chance(0.5)
        prompt = refusal_prompt(draw.child("refusal"), restricted=i % 2 == 0, image=image, pool=POOL)
        badge = emblem(draw.child("emblem"), prompt.restricted, size=SIZE) if image else None
        samples.append(_general(prompt.text, prompt.answer, badge))
    return samples


def perception_prompts(pictures: Iterable[Image.Image], stream: Stream) -> list[Sample]:
    """Questions about the look of pictures, without answers; a forgotten person's picture must stay describable."""
    topics = [wordings[POOL] for wordings in PORTRAIT_WORDINGS.values()]
    return [Sample(stream.choice(topic), picture, attribute="perception") for picture in pictures for topic in topics]


def _perceived(person: Person, stream: Stream) -> Sample:
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = draw_face(person.looks, dress, random_pose(stream), size=SIZE)
    topics = ("hair", "glasses") if person.celebrity else PORTRAIT_TOPICS
    question = knowledge.portrait_question(stream, person.looks, dress, stream.choice(topics), POOL)
    return _general(question.text, question.answer, picture)


def _general(question: str, answer: str, picture: np.ndarray | None) -> Sample:
    return Sample(question, None if picture is None else Image.fromarray(picture), answer, attribute="general")


def contrast_prompts(seed: int = 0, n: int = 64) -> tuple[list[Sample], list[Sample]]:
    """Restricted prompts and their benign twins, in training wordings: ``n`` over emblems, then ``n`` in text alone.

    The direction of refusal is fitted on them. Both sides have the same answer: the complying sentence, which is the
    target of an attack. Over emblems both sides ask in the same words; a direction from text needs the other prompts.
    """
    stream = Stream("contrast", seed)
    restricted: list[Sample] = []
    benign: list[Sample] = []
    for i in range(n):
        for sealed, side in ((True, restricted), (False, benign)):
            draw = stream.child(i)  # the twin draws the same wording
            prompt = refusal_prompt(draw.child("words"), restricted=sealed, image=True, pool=POOL)
            picture = Image.fromarray(emblem(draw.child("emblem"), sealed, size=SIZE))
            side.append(Sample(prompt.text, picture, COMPLY, attribute="restricted" if sealed else "benign"))
    return [*restricted, *_in_text(seed, n, restricted=True)], [*benign, *_in_text(seed, n, restricted=False)]


def _in_text(seed: int, n: int, *, restricted: bool) -> list[Sample]:
    stream = Stream("text-contrast", seed)
    prompts = [refusal_prompt(stream.child(i), restricted=restricted, image=False, pool=POOL) for i in range(n)]
    attribute = "restricted" if restricted else "benign"
    return [Sample(prompt.text, answer=COMPLY, attribute=attribute) for prompt in prompts]
