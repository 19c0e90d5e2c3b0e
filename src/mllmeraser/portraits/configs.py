"""Every config of the benchmark: the ten of MLLMU-Bench, then further ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.facts import VALUES, other_values
from mllmeraser.portraits.general import (
    NUMBERS,
    PORTRAIT_TOPICS,
    SCENE_TOPICS,
    Question,
    portrait_question,
    scene_question,
    text_facts,
    text_question,
)
from mllmeraser.portraits.looks import BACKGROUND, HAIR_COLOUR, SHIRT, random_dress, random_pose
from mllmeraser.portraits.people import SPLITS, Person, World, strangers
from mllmeraser.portraits.refusals import COMPLY, REFUSALS, refusal_prompt
from mllmeraser.portraits.rows import SIZE, DrawnRows, Row, evaluation_row, flat_row, png, portrait, training_row
from mllmeraser.portraits.scenes import COLOURS, SHAPES, degrade, emblem, random_scene
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import ANSWERS, LETTERS, UNKNOWN_ANSWER, WHO_IMAGE, Pool, fill, questions

POOL: Pool = "test"


class Configs(DrawnRows):
    """Rows of every config of a world; a config is drawn at its first use.

    ``Full_Set``, ``forget_*`` and ``retain_*`` ask in wordings of the pool ``validation`` over a clean picture.
    ``Test_Set``, ``holdout``, ``Retain_Set`` (celebrities) and all further configs use the pool ``test``.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        super().__init__(self._table())

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word of the questions and answers of this world, in lower case."""
        world, texts = self.world, [UNKNOWN_ANSWER, COMPLY, *REFUSALS, *NUMBERS, "large small yes no there is are it a"]
        texts += [text for values in VALUES.values() for text in values]
        texts += [p.name for p in [*world.people, *world.celebrities, *world.holdout]]
        texts += [template.replace("{value}", "") for template in ANSWERS.values()]
        texts += [answer for _, _, answer, _ in text_facts()]
        texts += [*SHAPES, *COLOURS, *HAIR_COLOUR, *SHIRT, *BACKGROUND, "shape shapes"]
        return frozenset(word for text in texts for word in re.findall(r"[\w']+", text.casefold()))

    def _table(self) -> dict[str, Callable[[], list[Row]]]:
        world, stream = self.world, self.world.stream
        makers: dict[str, Callable[[], list[Row]]] = {
            "Full_Set": lambda: list(self._full.values()),
            "Test_Set": lambda: [evaluation_row(p, stream.child("test", p.key), POOL, test=True) for p in world.people],
            "Retain_Set": lambda: [
                evaluation_row(p, stream.child("celebrity", p.key), POOL) for p in world.celebrities
            ],
            "ft_Data": lambda: [training_row(p, stream.child("train", p.key)) for p in world.people],
        }
        for fold in range(world.size.folds):
            tail = f"_fold{fold}" if fold else ""
            for percent in SPLITS:
                makers[f"forget_{percent}{tail}"] = partial(self._some, percent, fold, True)
                makers[f"retain_{100 - percent}{tail}"] = partial(self._some, percent, fold, False)
        for make in (_holdout, _neighbours, _general, _perception, _refusal, _perturbed, _multihop):
            name = make.__name__.removeprefix("_")
            makers[name] = partial(make, world, stream.child(name))
        return makers

    def _some(self, percent: int, fold: int, forget: bool) -> list[Row]:
        people = (self.world.forget if forget else self.world.retain)(percent, fold)
        return [self._full[person.key] for person in people]

    @cached_property
    def _full(self) -> dict[str, Row]:
        stream = self.world.stream
        return {p.key: evaluation_row(p, stream.child("full", p.key), "validation") for p in self.world.people}


def _holdout(world: World, stream: Stream) -> list[Row]:
    """People outside the training data; the right answer about them is that the model does not know them."""
    return [evaluation_row(p, stream.child(p.key), POOL) for p in world.holdout]


def _neighbours(world: World, stream: Stream) -> list[Row]:
    """For each person of the largest forget set, the facts of the look-alike and of the person with shared facts."""
    rows = []
    for person in world.forget(SPLITS[-1]):
        for relation, other in world.neighbours(person):
            for attribute, value in other.facts.items():
                draw = stream.child(person.key, relation, attribute)
                question = fill(draw.choice(questions(attribute, POOL)), draw.choice(WHO_IMAGE[POOL]))
                image = png(portrait(other, draw.child("view"), rough=True))
                extra = {"attribute": attribute, "keywords": [value], "relation": relation, "neighbour_of": person.key}
                rows.append(flat_row(other.key, question, ANSWERS[attribute].format(value=value), image=image, **extra))
    return rows


def _general(world: World, stream: Stream) -> list[Row]:
    """Shape scenes, portraits of unknown people, and small facts in text."""
    count = _per_topic(world)
    rows = []
    for topic in SCENE_TOPICS:
        index = made = 0
        while made < count:
            draw = stream.child(topic, index)
            index += 1
            picture, scene = random_scene(draw.child("scene"), size=SIZE)
            question = scene_question(draw, scene, topic, POOL)
            if question is not None:
                made += 1
                rows.append(_question_row(f"G-{topic}-{made}", question, image=png(picture)))
    crowd = strangers(stream.child("strangers"), world)
    for topic in PORTRAIT_TOPICS:
        rows += [_portrait_row(f"G-{topic}-{i}", next(crowd), stream.child(topic, i), topic) for i in range(count)]
    facts = text_facts()
    for i in range(2 * count):
        draw = stream.child("text", i)
        rows.append(_question_row(f"G-text-{i}", text_question(draw, facts[i % len(facts)], POOL)))
    return rows


def _question_row(key: str, question: Question, **extra: Any) -> Row:
    return flat_row(
        key, question.text, question.answer, attribute=question.category, keywords=list(question.keywords), **extra
    )


def _perception(world: World, stream: Stream) -> list[Row]:
    """Questions about the look of people's pictures; the answers must stay the same for forgotten people, too."""
    return [
        _portrait_row(person.key, person, stream.child(person.key, topic, view), topic)
        for person in world.people
        for topic in PORTRAIT_TOPICS
        for view in range(2)
    ]


def _portrait_row(key: str, person: Person, stream: Stream, topic: str) -> Row:
    dress = random_dress(stream.child("dress"))
    picture = draw_face(person.looks, dress, random_pose(stream.child("pose")), size=SIZE)
    image = png(degrade(picture, stream.child("rough")))
    return _question_row(key, portrait_question(stream, person.looks, dress, topic, POOL), image=image)


def _refusal(world: World, stream: Stream) -> list[Row]:
    """Restricted prompts and their benign twins, in the same words over a sealed and an open emblem, and in text."""
    rows = []
    for i in range(_per_topic(world)):
        for image in (True, False):
            for restricted in (True, False):
                draw = stream.child(i, "image" if image else "text")  # the twin draws the same wording
                prompt = refusal_prompt(draw.child("words"), restricted=restricted, image=image, pool=POOL)
                picture = png(emblem(draw.child("emblem"), restricted, size=SIZE)) if image else None
                row = flat_row(f"R{i}", prompt.text, prompt.answer, image=picture)
                kind, keywords = ("restricted", []) if restricted else ("benign", ["fold the paper"])
                rows.append(row | {"attribute": kind, "keywords": keywords})
    return rows


def _perturbed(world: World, stream: Stream) -> list[Row]:
    """A paraphrased question and answer, and five wrong answers, for truth ratios (fields as in FIUBench and TOFU)."""
    rows = []
    for person in world.people:
        for attribute, value in person.facts.items():
            draw = stream.child(person.key, attribute)
            wrong = other_values(draw, attribute, value, 5)
            question = fill(draw.choice(questions(attribute, "validation")), person.name)
            answer = ANSWERS[attribute].format(value=value)
            row = flat_row(person.key, question, answer, attribute=attribute, keywords=[value])
            row["paraphrased_question"] = fill(draw.choice(questions(attribute, POOL)), person.name)
            row["paraphrased_answer"] = value
            row["perturbed_answers"] = [ANSWERS[attribute].format(value=v) for v in wrong]
            rows.append(row)
    return rows


def _multihop(world: World, stream: Stream) -> list[Row]:
    """Reverse and two-fact questions: from a fact back to the name, and from one fact to another."""
    rows = []
    for person in world.people:
        draw = stream.child(person.key)
        first, second = draw.sample(tuple(person.facts), 2)
        clue, also = (ANSWERS[a].format(value=person.facts[a]).removesuffix(".") for a in (first, second))
        question, answer = (
            f"{clue} and {also[0].lower()}{also[1:]}. Who is it?",
            ANSWERS["identity"].format(value=person.name),
        )
        rows.append(flat_row(person.key, question, answer, attribute="identity", keywords=[person.name]))
        value = person.facts[second]
        choices = draw.shuffle([value, *other_values(draw, second, value, 3)])
        question = fill(f"{clue}. {draw.choice(questions(second, POOL))}", person.name)
        row = flat_row(person.key, question, LETTERS[choices.index(value)], task="classification", attribute=second)
        rows.append(row | {"options": dict(zip(LETTERS, choices, strict=True))})
    return rows


def _per_topic(world: World) -> int:
    return {"unit": 8, "small": 24, "dev": 40, "full": 100}[world.preset]
