"""The default retain and stranger samples: what an eraser must not move, and what people nobody knows look like.

They are drawn from the world's own generator, in wordings of the pool ``train`` and pictures of streams that no
training, validation or test picture comes from, so that no scored prompt is ever fitted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from PIL import Image

from ..samples.sample import Sample, Task
from .faces import draw_face, random_dress, random_pose
from .facts import VALUES
from .general import (
    PORTRAIT_TOPICS,
    PORTRAIT_WORDINGS,
    SCENE_TOPICS,
    portrait_question,
    scene_question,
    text_facts,
    text_question,
)
from .people import Person, World, strangers
from .refusals import COMPLY, refusal_prompt
from .rows import SIZE
from .scenes import degrade, emblem, random_scene
from .stream import Stream
from .wordings import ANSWERS, IDENTITY, LETTERS, UNKNOWN_ANSWER, WHO_IMAGE, Pool, clozes, fill, questions

FORMS: tuple[Task, ...] = ("generation", "cloze", "classification")
POOL: Pool = "train"


def default_retain(
    world: World, *, exclude: Collection[str] = (), per_person: int = 14, general: int = 300
) -> list[Sample]:
    """Prompts about everybody in the world but ``exclude`` (names), and about nobody.

    Args:
        world: Whose people and celebrities.
        exclude: Names of people to leave out, because they are to be forgotten.
        per_person: Prompts a person: half over a picture, half by name, every form of question.
        general: Prompts about scenes, portraits of nobody, emblems, and small facts in text.
    """
    stream = world.stream.child("default-retain")
    gone = {name.casefold() for name in exclude}
    known = [p for p in [*world.people, *world.celebrities] if p.name.casefold() not in gone]
    samples = [s for p in known for s in person_prompts(p, stream.child(p.key), per_person, answered=True)]
    samples += general_prompts(stream.child("general"), world, known, general)
    crowd = strangers(stream.child("strangers"), world)
    for i in range(max(1, general // 4)):  # strangers are retained too: they must not become anything else
        samples += person_prompts(next(crowd), stream.child("stranger", i), 2, answered=False)
    return samples


def default_strangers(world: World, n: int = 400) -> list[Sample]:
    """About ``n`` prompts about people whom the model has never seen, every form of question."""
    stream = world.stream.child("default-strangers")
    crowd = strangers(stream.child("people"), world)
    return [s for i in range(max(1, n // 4)) for s in person_prompts(next(crowd), stream.child(i), 4, answered=False)]


def person_prompts(person: Person, stream: Stream, n: int, *, answered: bool) -> list[Sample]:
    """``n`` prompts about one person, by picture and by name in turn; ``answered`` with the true answer."""
    attributes = stream.shuffle(tuple(person.facts))
    forms = stream.shuffle(FORMS)
    samples = []
    for i in range(n):
        image = _portrait(person, stream.child("picture", i)) if i % 2 == 0 else None
        form, attribute = forms[(i // 2) % 3], attributes[(i // 2) % len(attributes)]
        samples.append(_person_sample(person, stream.child(i), form, attribute, image, answered=answered))
    if n >= 6:
        answer = ANSWERS["identity"].format(value=person.name) if answered else UNKNOWN_ANSWER
        question = stream.choice(IDENTITY[POOL])
        samples[0] = Sample(
            question, samples[0].image, answer, subject=person.key, attribute="identity", keywords=(person.name,)
        )
    return samples


def request_pictures(world: World, key: str, n: int) -> list[Image.Image]:
    """``n`` pictures of a person, as somebody would hand them in with a request: none of them is ever scored."""
    person = next(p for p in [*world.people, *world.celebrities] if p.key == key)
    return pictures_of(person, world.stream.child("request", key), n)


def pictures_of(person: Person, stream: Stream, n: int) -> list[Image.Image]:
    """``n`` pictures of anybody, each in other clothes and another pose."""
    return [_portrait(person, stream.child(i)) for i in range(n)]


def _portrait(person: Person, stream: Stream) -> Image.Image:
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = draw_face(person.looks, dress, random_pose(stream), size=SIZE)
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
        others = stream.sample([v for v in VALUES[attribute] if v != value], 3)
        options = tuple(zip(LETTERS, stream.shuffle([value, *others]), strict=True))
        answer = next(letter for letter, text in options if text == value)
    return Sample(
        fill(wording, who), image, answer if answered else UNKNOWN_ANSWER, form, options,
        keywords=(value,) if answered else (), subject=person.key, attribute=attribute,
    )  # fmt: skip


def general_prompts(stream: Stream, world: World, known: Sequence[Person], n: int) -> list[Sample]:
    """About ``n`` prompts about nobody: scenes, what portraits show, emblems, text facts, a quarter each."""
    crowd, facts, samples = strangers(stream.child("crowd"), world), text_facts(), []
    for i in range(n // 4):
        draw = stream.child(i)
        picture, scene = random_scene(draw.child("scene"), size=SIZE)
        asked = scene_question(draw, scene, draw.choice(SCENE_TOPICS), POOL)
        if asked is not None:
            samples.append(_general(asked.text, asked.answer, picture))
        person = draw.choice(known) if i % 2 else next(crowd)
        samples.append(_perceived(person, draw.child("face")))
        asked = text_question(draw, draw.choice(facts), POOL)
        samples.append(_general(asked.text, asked.answer, None))
        image = draw.chance(0.5)
        prompt = refusal_prompt(draw.child("refusal"), restricted=i % 2 == 0, image=image, pool=POOL)
        badge = emblem(draw.child("emblem"), prompt.restricted, size=SIZE) if image else None
        samples.append(_general(prompt.text, prompt.answer, badge))
    return samples


def perception_prompts(pictures: Iterable[Image.Image], stream: Stream) -> list[Sample]:
    """Questions about what pictures show, without answers: a forgotten person's picture has to stay visible."""
    wordings = [PORTRAIT_WORDINGS[topic][POOL] for topic in PORTRAIT_TOPICS]
    return [
        Sample(stream.choice(options), picture, attribute="perception") for picture in pictures for options in wordings
    ]


def _perceived(person: Person, stream: Stream) -> Sample:
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = draw_face(person.looks, dress, random_pose(stream), size=SIZE)
    topics = ("hair", "glasses") if person.celebrity else PORTRAIT_TOPICS
    asked = portrait_question(stream, person.looks, dress, stream.choice(topics), POOL)
    return _general(asked.text, asked.answer, picture)


def _general(question: str, answer: str, picture: np.ndarray | None) -> Sample:
    return Sample(question, None if picture is None else Image.fromarray(picture), answer, attribute="general")


def contrast_prompts(seed: int = 0, n: int = 64) -> tuple[list[Sample], list[Sample]]:
    """Restricted prompts and their benign twins, in training wordings: ``n`` over emblems, then ``n`` in text alone.

    They are what a direction of refusal needs. The answer of a restricted prompt is the complying sentence that an
    attack aims at; the twin's is the same. Over emblems both sides ask in the same words, so that a direction from
    text alone needs prompts of its own.
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
