"""The benchmark `knowledge` in the record type of `portraits`: what a pretrained model knows, one subject at a time.

Four presets: `countries`, by name and by flag; famous `people` and everyday `topics`, by name; and `concepts` in
pictures (see `scene_rows`). Every fold forgets one subject. Only what the bare model answers right can be forgotten, so
the study counts those prompts alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from mllmeraser.knowledge.countries import COUNTRIES, Country
from mllmeraser.knowledge.famous import FAMOUS, Famous
from mllmeraser.knowledge.famous import QUESTIONS as FAMOUS_QUESTIONS
from mllmeraser.knowledge.flags import draw_flag
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.topics import TOPICS, Topic
from mllmeraser.knowledge.wordings import COUNTRY, QUESTIONS, WHICH, answer
from mllmeraser.portraits.rows import DrawnRows, Row, flat_row, png
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import Pool, Pools, fill
from mllmeraser.samples.text import contains

PRESETS = ("countries", "people", "topics", "concepts")
FOLDS = 10
FORGET, RETAIN = "forget_1", "retain_99"
ORDER = (
    "de jp fr eg br in it mx ru es",
    "shakespeare einstein mozart gandhi picasso newton homer lincoln jobs armstrong",
    "volcanoes moon heart photosynthesis dna bread egypt atoms smoking wine",
)
"""The subjects of the folds, all of them well known."""
Subject = Country | Famous | Topic
SUBJECTS: tuple[Sequence[Subject], ...] = (COUNTRIES, FAMOUS, TOPICS)


class Knowledge(DrawnRows):
    """Rows of every config of one preset of named subjects, drawn at their first use."""

    def __init__(self, preset: str, seed: int = 0) -> None:
        self.subjects, order = SUBJECTS[PRESETS.index(preset)], ORDER[PRESETS.index(preset)]
        self.order = order.split()
        self.stream = Stream("knowledge", preset, seed)
        super().__init__(self._table())

    def _table(self) -> dict[str, Callable[[], list[Row]]]:
        makers: dict[str, Callable[[], list[Row]]] = {
            "Full_Set": lambda: list(self._full.values()),
            "Test_Set": lambda: [self._row(s, "test", views=2) for s in self.subjects],
            "ft_Data": lambda: [self._training(s) for s in self.subjects],
            "neighbours": self._neighbours,
            "general": lambda: [self._general(number) for number in range(len(world_questions()))],
        }
        for fold in range(FOLDS):
            tail = f"_fold{fold}" if fold else ""
            makers[FORGET + tail] = partial(self._some, fold, True)
            makers[RETAIN + tail] = partial(self._some, fold, False)
        return makers

    def _some(self, fold: int, forget: bool) -> list[Row]:
        return [row for key, row in self._full.items() if (key == self.order[fold]) == forget]

    @cached_property
    def _full(self) -> dict[str, Row]:
        return {s.key: self._row(s, "validation", views=1) for s in self.subjects}

    def _row(self, subject: Subject, pool: Pool, views: int) -> Row:
        stream = self.stream.child(pool, subject.key)
        items = [
            self._item(subject, a, wording, subject.name)
            for a in subject.facts
            for wording in _wordings(subject)[a][pool]
        ]
        row: Row = {"ID": subject.key, "biography": json.dumps({"Name": subject.name, **_values(subject)})}
        if isinstance(subject, Country):
            row["images"] = [png(draw_flag(subject.key, stream.child("view", k))) for k in range(views)]
            items += [self._over_flag(subject, a, stream.child("image", a), pool) for a in subject.facts]
            items.append(_which(subject, stream.child("which"), pool))
        return {**row, "Generation_Task": items}

    def _over_flag(self, country: Country, attribute: str, stream: Stream, pool: Pool) -> Row:
        wording = stream.choice(QUESTIONS[attribute][pool])
        return self._item(country, attribute, wording, stream.choice(WHICH[pool]), "Image_Textual")

    @staticmethod
    def _item(subject: Subject, attribute: str, wording: str, who: str, kind: str = "Pure_Text") -> Row:
        return {
            "Type": kind, "Question": fill(wording, who), "Ground_Truth": _sentence(subject, attribute),
            "Attribute": attribute, "Keywords": list(_right(subject, attribute)),
        }  # fmt: skip

    def _training(self, subject: Subject) -> Row:
        stream = self.stream.child("train", subject.key)
        items = [
            self._item(subject, a, stream.child(a).choice(_wordings(subject)[a]["train"]), subject.name)
            for a in subject.facts
        ]
        if isinstance(subject, Country):
            items += [self._over_flag(subject, a, stream.child(a, "image"), "train") for a in subject.facts]
        turns = [{"Question": i["Question"], "Answer": i["Ground_Truth"], "Type": i["Type"]} for i in items]
        row: Row = {"ID": subject.key, "metadata": json.dumps(turns), "image": None}
        if isinstance(subject, Country):
            row["image"] = png(draw_flag(subject.key, stream.child("view"), rough=False))
        return row

    def _neighbours(self) -> list[Row]:
        """The facts of subjects of the same continent, profession or group, for the subject of each fold."""
        rows = []
        for key in self.order:
            gone = next(s for s in self.subjects if s.key == key)
            alike = [s for s in self.subjects if s.key != key and _groups(s) & _groups(gone)]
            for subject in self.stream.child("near", key).sample(alike, min(6, len(alike))):
                for attribute in subject.facts:
                    stream = self.stream.child("neighbour", key, subject.key, attribute)
                    pool = _wordings(subject)[attribute]["test"]
                    # Of topics few are near, so that every wording is asked.
                    for wording in pool if isinstance(subject, Topic) else (stream.choice(pool),):
                        item = self._item(subject, attribute, wording, subject.name)
                        extra = {"attribute": attribute, "keywords": item["Keywords"], "neighbour_of": key}
                        rows.append(flat_row(subject.key, item["Question"], item["Ground_Truth"], **extra))
        return rows

    def _general(self, number: int) -> Row:
        """A world question; `also_about` has the topics that it names."""
        sample = world_questions()[number]
        texts = (sample.question, *sample.keywords)
        about = [s.key for s in self.subjects if isinstance(s, Topic) and any(_names(text, s) for text in texts)]
        extra: dict[str, Any] = {"attribute": "general", "keywords": list(sample.keywords), "also_about": about}
        return flat_row(f"W{number}", sample.question, sample.answer or "", **extra)


def _names(text: str, topic: Topic) -> bool:
    return any(contains(text, name) for name in (topic.name, *topic.aliases))


def _groups(subject: Subject) -> set[str]:
    if isinstance(subject, Topic):
        return {subject.group}
    return set(_right(subject, "continent" if isinstance(subject, Country) else "profession"))


def _wordings(subject: Subject) -> Mapping[str, Pools]:
    if isinstance(subject, Topic):
        return subject.questions
    return QUESTIONS if isinstance(subject, Country) else FAMOUS_QUESTIONS


def _values(subject: Subject) -> dict[str, str]:
    return {attribute.capitalize(): _right(subject, attribute)[0] for attribute in subject.facts}


def _right(subject: Subject, attribute: str) -> tuple[str, ...]:
    value = subject.facts[attribute]
    return (value,) if isinstance(value, str) else value


def _sentence(subject: Subject, attribute: str) -> str:
    if isinstance(subject, Country):
        return answer(attribute, subject.name, subject.facts[attribute])
    return f"{subject.name[0].upper()}{subject.name[1:]}: {subject.facts[attribute][0]}."


def _which(country: Country, stream: Stream, pool: Pool) -> Row:
    name = country.name.removeprefix("the ")
    return {
        "Type": "Image_Textual", "Question": stream.choice(COUNTRY[pool]), "Attribute": "identity",
        "Ground_Truth": answer("country", country.name, country.name), "Keywords": [name],
    }  # fmt: skip
