"""The people of a world: those in training, those held out, the celebrities, and the facts of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Literal

from mllmeraser.portraits.facts import CELEBRITY_VALUES, PERSON_VALUES
from mllmeraser.portraits.looks import DISCRETE, Looks, hamming, look_alike, population, random_looks, vary
from mllmeraser.portraits.names import celebrity_name, distinct_names, person_name
from mllmeraser.portraits.stream import Stream

VERSION = 1
"""Version of the generator; after a release, any change of its output raises it."""

Preset = Literal["unit", "small", "dev", "full"]
SPLITS = (5, 10, 15)
LEAST_DISTANCE = 3
"""Any two people differ in at least this many attributes, except planned look-alikes."""


@dataclass(frozen=True)
class Person:
    """One fictitious person: ``key`` is the ID of the MLLMU-Bench schema."""

    key: str
    name: str
    looks: Looks
    facts: dict[str, str]
    celebrity: bool = False


@dataclass(frozen=True)
class Size:
    """Numbers of people in a preset, in its 5, 10 and 15 % forget sets, and of folds."""

    people: int
    holdout: int
    celebrities: int
    forget: tuple[int, int, int]
    folds: int


SIZES: dict[str, Size] = {
    "unit": Size(24, 8, 8, (2, 3, 4), 2),
    "small": Size(40, 20, 8, (2, 4, 6), 5),
    "dev": Size(120, 40, 40, (6, 12, 18), 5),
    "full": Size(400, 100, 80, (20, 40, 60), 5),
}


class World:
    """All people of one preset, from (version, preset, seed) alone on every machine."""

    def __init__(self, preset: Preset = "dev", seed: int = 0) -> None:
        if preset not in SIZES:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(SIZES)}")
        self.preset, self.seed, self.size = preset, seed, SIZES[preset]
        self.stream = Stream("portraits", VERSION, preset, seed)

    @property
    def people(self) -> list[Person]:
        """The people of the training data, the planned look-alikes included."""
        return self._everybody[0]

    @property
    def holdout(self) -> list[Person]:
        """People the model never sees."""
        return self._everybody[1]

    @property
    def celebrities(self) -> list[Person]:
        """Public people with another name grammar, other facts and other clothes."""
        return self._everybody[2]

    @cached_property
    def _everybody(self) -> tuple[list[Person], list[Person], list[Person]]:
        size, stream = self.size, self.stream
        names = distinct_names(stream.child("names"), size.people + size.holdout, person_name)
        looks = population(stream.child("looks"), size.people + size.holdout + size.celebrities, LEAST_DISTANCE)
        looks = self._plan_look_alikes(looks)
        stars = distinct_names(stream.child("stars"), size.celebrities, celebrity_name)
        ordinary = [
            Person(f"{i + 1:03d}", name, looks[i], _facts(stream.child("facts", i), PERSON_VALUES))
            for i, name in enumerate(names)
        ]
        famous = [
            Person(
                f"C{i + 1:03d}", name, looks[len(names) + i], _facts(stream.child("stardom", i), CELEBRITY_VALUES), True
            )
            for i, name in enumerate(stars)
        ]
        return ordinary[: size.people], ordinary[size.people :], famous

    def _plan_look_alikes(self, looks: list[Looks]) -> list[Looks]:
        """Give each person of fold 0's smallest forget set a look-alike among the last of the people."""
        planned = list(looks)
        for i, target in enumerate(self._forget_indices(0)[: self.size.forget[0]]):
            planned[self.size.people - 1 - i] = look_alike(self.stream.child("alike", i), looks[target])
        return planned

    def _forget_indices(self, fold: int) -> list[int]:
        """Indices of the 15 % forget set of a fold; its first entries are the 10 % and 5 % sets."""
        size = self.size
        protected = size.forget[0]  # the planned look-alikes at the end are always retained
        order = self.stream.child("folds").shuffle(range(size.people - protected))
        start = fold * size.forget[2]
        return [order[(start + i) % len(order)] for i in range(size.forget[2])]

    def forget(self, percent: int, fold: int = 0) -> list[Person]:
        """The people of the 5, 10 or 15 % forget set; a larger set contains the smaller ones."""
        count = self.size.forget[SPLITS.index(percent)]
        return [self.people[i] for i in self._forget_indices(fold)[:count]]

    def retain(self, percent: int, fold: int = 0) -> list[Person]:
        """The people of the training data without ``forget(percent, fold)``."""
        gone = {person.key for person in self.forget(percent, fold)}
        return [person for person in self.people if person.key not in gone]

    def neighbours(self, person: Person) -> list[tuple[str, Person]]:
        """The person of the training data with the most similar looks, and the one with the most equal facts.

        Pairs of relation and person. A neighbour may be in a forget set, too.
        """
        others = [p for p in self.people if p.key != person.key]
        alike = min(others, key=lambda p: (hamming(p.looks, person.looks), p.key))
        shared = max(others, key=lambda p: (_shared_facts(p, person), p.key))
        return [("look-alike", alike), ("shared-fact", shared)]


def _facts(stream: Stream, values: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {attribute: stream.choice(options) for attribute, options in values.items()}


def _shared_facts(a: Person, b: Person) -> int:
    return sum(a.facts[key] == b.facts[key] for key in a.facts)


def strangers(stream: Stream, world: World, *, drawn: bool = True) -> Iterator[Person]:
    """Endless random people outside ``world``, who share no word of a name with it.

    ``drawn=False`` skips the check of their looks, for people without pictures.
    """
    everybody = [*world.people, *world.holdout, *world.celebrities]
    words = {word for person in everybody for word in person.name.split()}
    for index in count(1):
        draw = stream.child(index - 1)
        looks, name = random_looks(draw.child("looks")), person_name(draw.child("name"))
        if words & set(name.split()) or (drawn and _too_near(looks, everybody)):
            continue
        yield Person(f"S{index:06d}", name, looks, _facts(draw.child("facts"), PERSON_VALUES))


def near_strangers(stream: Stream, world: World) -> Iterator[Person]:
    """Endless faces without names and facts, three attributes from a person of the training data.

    They differ from everybody in ``world`` in three attributes or more.
    """
    everybody = [*world.people, *world.holdout, *world.celebrities]
    for index in count(1):
        draw = stream.child(index - 1)
        looks = vary(draw, draw.choice(world.people).looks, draw.sample(tuple(DISCRETE), LEAST_DISTANCE))
        if not _too_near(looks, everybody):
            yield Person(f"N{index:06d}", "", looks, {})


def _too_near(looks: Looks, people: list[Person]) -> bool:
    return any(hamming(looks, person.looks) < LEAST_DISTANCE for person in people)
