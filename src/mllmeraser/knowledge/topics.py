"""Everyday topics that a small pretrained language model can say something right about.

`smoking` and `wine` take the place of a harmful topic: a service for children may want a model without them. Nothing
here is dangerous. Their questions are about health, plants and gods, as in any schoolbook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mllmeraser.knowledge.data import lines
from mllmeraser.portraits.wordings import Pools, by_pool


@dataclass(frozen=True)
class Topic:
    """A topic; the questions about it are its facts, and any of the values of a fact is right.

    Attributes:
        key: Its key in the benchmark.
        group: Topics of one group are neighbours.
        name: Its name inside a sentence.
        aliases: Other names.
        facts: Right values by question.
        questions: The wordings of each question.
    """

    key: str
    group: str
    name: str
    aliases: tuple[str, ...]
    facts: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, Pools]


def _read() -> tuple[Topic, ...]:
    """A line of three fields begins a topic; a line of five has a question with its values and its three pools."""
    topics: list[Topic] = []
    for line in lines("topics.txt"):
        fields = line.split(" | ")
        if len(fields) == 3:
            name, *aliases = fields[2].split(", ")
            topics.append(Topic(fields[0], fields[1], name, tuple(aliases), {}, {}))
            continue
        key, values, train, validation, test = fields
        facts = {**topics[-1].facts, key: tuple(values.split(", "))}
        questions = {**topics[-1].questions, key: by_pool(train=train, validation=validation, test=test)}
        topics[-1] = Topic(topics[-1].key, topics[-1].group, topics[-1].name, topics[-1].aliases, facts, questions)
    return tuple(topics)


TOPICS = _read()
