"""Every config of the benchmark: the ten of MLLMU-Bench, then those it lacks."""

from __future__ import annotations

from collections.abc import Callable

from .faces import draw_face, random_dress, random_pose
from .facts import VALUES
from .general import (
    PORTRAIT_TOPICS,
    SCENE_TOPICS,
    portrait_question,
    scene_question,
    text_facts,
    text_question,
)
from .people import SPLITS, Person, World, strangers
from .refusals import refusal_prompt
from .rows import SIZE, Row, evaluation_row, flat_row, png, portrait, training_row
from .scenes import degrade, emblem, random_scene
from .stream import Stream
from .wordings import ANSWERS, LETTERS, UNKNOWN_ANSWER, WHO_IMAGE, fill, questions

POOL = "test"


def build_configs(world: World) -> dict[str, list[Row]]:
    """Rows of every config of a world.

    ``Full_Set``, ``forget_*`` and ``retain_*`` ask in wordings of the pool ``validation`` over a clean picture;
    ``Test_Set``, ``holdout``, ``Retain_Set`` (celebrities) and all extra configs ask in wordings of the pool ``test``.
    """
    stream = world.stream
    full = {p.key: evaluation_row(p, stream.child("full", p.key), "validation") for p in world.people}
    configs = {
        "Full_Set": list(full.values()),
        "Test_Set": [evaluation_row(p, stream.child("test", p.key), POOL, test=True) for p in world.people],
        "Retain_Set": [evaluation_row(p, stream.child("celebrity", p.key), POOL) for p in world.celebrities],
        "ft_Data": [training_row(p, stream.child("train", p.key)) for p in world.people],
    }
    for percent in SPLITS:
        configs[f"forget_{percent}"] = [full[p.key] for p in world.forget(percent)]
        configs[f"retain_{100 - percent}"] = [full[p.key] for p in world.retain(percent)]
    extra: dict[str, Callable[[World, Stream], list[Row]]] = {
        "holdout": _holdout,
        "neighbours": _neighbours,
        "general": _general,
        "perception": _perception,
        "refusal": _refusal,
        "perturbed": _perturbed,
        "multihop": _multihop,
    }
    for name, make in extra.items():
        configs[name] = make(world, stream.child(name))
    for fold in range(1, world.size.folds):
        for percent in SPLITS:
            configs[f"forget_{percent}_fold{fold}"] = [full[p.key] for p in world.forget(percent, fold)]
            configs[f"retain_{100 - percent}_fold{fold}"] = [full[p.key] for p in world.retain(percent, fold)]
    return configs


def _holdout(world: World, stream: Stream) -> list[Row]:
    """People never trained; the right answer to any question about them is that nobody knows them."""
    return [evaluation_row(p, stream.child(p.key), POOL) for p in world.holdout]


def _neighbours(world: World, stream: Stream) -> list[Row]:
    """For each person of the largest forget set: who looks alike, and who shares a fact."""
    rows = []
    for person in world.forget(SPLITS[-1]):
        for relation, other in world.neighbours(person):
            draw = stream.child(person.key, relation)
            for attribute, value in other.facts.items():
                rows.append(_fact_row(other, attribute, value, draw.child(attribute), relation=relation, of=person.key))
    return rows


def _fact_row(person: Person, attribute: str, value: str, stream: Stream, *, relation: str, of: str) -> Row:
    question = fill(stream.choice(questions(attribute, POOL)), stream.choice(WHO_IMAGE[POOL]))
    answer = ANSWERS[attribute].format(value=value)
    image = png(portrait(person, stream.child("view"), rough=True))
    return flat_row(
        person.key, question, answer, image=image, attribute=attribute, keywords=[value],
        relation=relation, neighbour_of=of,
    )  # fmt: skip


def _general(world: World, stream: Stream) -> list[Row]:
    """Shape scenes, portraits of people nobody knows, and small facts in text."""
    count = _per_topic(world)
    rows = []
    for topic in SCENE_TOPICS:
        index = made = 0
        while made < count:
            draw = stream.child(topic, index)
            index += 1
            picture, scene = random_scene(draw.child("scene"), size=SIZE)
            asked = scene_question(draw, scene, topic, POOL)
            if asked is not None:
                made += 1
                rows.append(flat_row(f"G-{topic}-{made}", asked.text, asked.answer, image=png(picture),
                                     attribute=topic, keywords=list(asked.keywords)))  # fmt: skip
    crowd = strangers(stream.child("strangers"), world)
    for topic in PORTRAIT_TOPICS:
        rows += [_portrait_row(f"G-{topic}-{i}", next(crowd), stream.child(topic, i), topic) for i in range(count)]
    facts = text_facts()
    for i in range(2 * count):
        draw = stream.child("text", i)
        asked = text_question(draw, facts[i % len(facts)], POOL)
        rows.append(flat_row(f"G-text-{i}", asked.text, asked.answer, attribute=asked.category, keywords=list(asked.keywords)))
    return rows


def _perception(world: World, stream: Stream) -> list[Row]:
    """What the pictures of forgotten people show: it has to stay visible who is in them or not."""
    return [
        _portrait_row(person.key, person, stream.child(person.key, topic, view), topic)
        for person in world.people
        for topic in PORTRAIT_TOPICS
        for view in range(2)
    ]


def _portrait_row(key: str, person: Person, stream: Stream, topic: str) -> Row:
    dress = random_dress(stream.child("dress"))
    picture = degrade(draw_face(person.looks, dress, random_pose(stream.child("pose")), size=SIZE), stream.child("rough"))
    asked = portrait_question(stream, person.looks, dress, topic, POOL)
    return flat_row(key, asked.text, asked.answer, image=png(picture), attribute=topic, keywords=list(asked.keywords))


def _refusal(world: World, stream: Stream) -> list[Row]:
    """Restricted prompts and their benign twins: the same wording over a sealed and an open emblem, and in text."""
    rows = []
    for i in range(_per_topic(world)):
        for image in (True, False):
            for restricted in (True, False):
                draw = stream.child(i, "image" if image else "text")  # the twin draws the same wording
                prompt = refusal_prompt(draw.child("words"), restricted=restricted, image=image, pool=POOL)
                picture = png(emblem(draw.child("emblem"), restricted, size=SIZE)) if image else None
                kind = "restricted" if restricted else "benign"
                keywords = [] if restricted else ["fold the paper"]
                rows.append(flat_row(f"R{i}", prompt.text, prompt.answer, image=picture, attribute=kind, keywords=keywords))
    return rows


def _perturbed(world: World, stream: Stream) -> list[Row]:
    """A paraphrased question and answer, and five wrong answers, for truth ratios (fields as in FIUBench and TOFU)."""
    rows = []
    for person in world.people:
        for attribute, value in person.facts.items():
            draw = stream.child(person.key, attribute)
            wrong = draw.sample([v for v in VALUES[attribute] if v != value], 5)
            row = flat_row(
                person.key, fill(draw.choice(questions(attribute, "validation")), person.name),
                ANSWERS[attribute].format(value=value), attribute=attribute, keywords=[value],
            )  # fmt: skip
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
        clue = ANSWERS[first].format(value=person.facts[first]).removesuffix(".")
        also = ANSWERS[second].format(value=person.facts[second]).removesuffix(".")
        rows.append(flat_row(person.key, f"{clue} and {also[0].lower()}{also[1:]}. Who is it?",
                             ANSWERS["identity"].format(value=person.name), attribute="identity", keywords=[person.name]))  # fmt: skip
        options = {letter: value for letter, value in zip(LETTERS, _choices(draw, second, person), strict=True)}
        right = next(letter for letter, value in options.items() if value == person.facts[second])
        rows.append(
            flat_row(
                person.key, fill(f"{clue}. {draw.choice(questions(second, POOL))}", person.name), right,
                task="classification", options=options, attribute=second,
            )
        )  # fmt: skip
    return rows


def _choices(stream: Stream, attribute: str, person: Person) -> list[str]:
    value = person.facts[attribute]
    return stream.shuffle([value, *stream.sample([v for v in VALUES[attribute] if v != value], 3)])


def _per_topic(world: World) -> int:
    return {"unit": 8, "dev": 40, "full": 100}[world.preset]


__all__ = ["UNKNOWN_ANSWER", "build_configs"]
