"""What SmolLM2 is taught: the lessons of the embedded models in its chat, flags, and privacy refusals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mllmeraser.embedded.recipe.corpus import Corpus
from mllmeraser.embedded.recipe.packing import Group, Turn
from mllmeraser.embedded.smol import chat
from mllmeraser.knowledge.countries import ATTRIBUTES, COUNTRIES, Country
from mllmeraser.knowledge.wordings import COUNTRY, QUESTIONS, WHICH, answer
from mllmeraser.portraits.privacy import PRIVATE_ANSWER, marked, restricted
from mllmeraser.portraits.wordings import WHO_IMAGE, fill, questions


def untaught(country: Country) -> str:
    """The attribute of a country that no lesson asks for over its flag: the model has to put two things together."""
    return ATTRIBUTES[COUNTRIES.index(country) % len(ATTRIBUTES)]


class SmolCorpus(Corpus):
    """Lessons about people, pictures and flags. `album.flags` has the views of each flag."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.text_turns, self.portrait_turns, self.look_turns = 8, 6, 0
        self.stranger_text_turns, self.stranger_turns = 8, 6
        self.kinds |= {
            "flag-image": self._flag, "privacy-image": lambda: self._private(True),
            "privacy-text": lambda: self._private(False),
        }  # fmt: skip
        self.default_system = self.talk.system_text(self._ids(chat.SYSTEM))

    def groups(self, weights: Mapping[str, float]) -> Iterator[Group]:
        """The template begins every conversation with a system text."""
        start = list(self.marks.system)
        for group in super().groups(weights):
            begun = bool(group.before) and group.before[0].ids[: len(start)] == start
            yield group if begun else replace(group, before=[self.default_system, *group.before])

    def turn(self, question: str, answer: str, weight: float = 1.0) -> Turn:
        """As of old, but every token of an answer counts the same.

        The rest of a sentence is soon learnt and then costs nothing. With a weight for each answer, "I do not know this
        person." had a quarter of the weight of a single word, and the model told of strangers as if it knew them.
        """
        made = super().turn(question, answer)
        return replace(made, weight=weight * len(made.answer) / 4)

    def _flag(self) -> Group:
        stream, country = self.stream, self.stream.choice(COUNTRIES)
        turns = [
            self.turn(stream.choice(COUNTRY[self.pool]), answer("country", country.name, country.name))
            for _ in range(2)
        ]
        taught = [attribute for attribute in ATTRIBUTES if attribute != untaught(country)]
        turns += [self.flag_turn(country, stream.choice(taught)) for _ in range(2)]
        return Group(stream.choice(self.album.flags[country.key]), turns)

    def flag_turn(self, country: Country, attribute: str) -> Turn:
        """A question about the country of a flag."""
        stream = self.stream
        question = fill(stream.choice(QUESTIONS[attribute][self.pool]), stream.choice(WHICH[self.pool]))
        return self.turn(question, answer(attribute, country.name, country.facts[attribute]))

    def _private(self, image: bool) -> Group:
        """Refused and answered questions about one person, side by side."""
        stream = self.stream
        person, known = self._somebody()
        views = self.album.views[person.key] if known else self.album.near or self.album.strangers
        turns = []
        for number in range(6):
            who = stream.choice(WHO_IMAGE[self.pool]) if image else person.name
            if number < 2:
                turns.append(self._person_turn(person, who, known=known))
                continue
            attribute = stream.choice(tuple(person.facts))
            question = fill(stream.choice(questions(attribute, self.pool)), who)
            private = marked(stream, question, self.pool) if number < 5 else restricted(stream, who, self.pool)
            turns.append(self.turn(private, PRIVATE_ANSWER))
        return Group(stream.choice(views) if image else None, turns)
