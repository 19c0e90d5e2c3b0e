"""Thirty-six famous people whom a pretrained language model may know, by name alone."""

from __future__ import annotations

from dataclasses import dataclass

from mllmeraser.knowledge.data import lines
from mllmeraser.portraits.wordings import Pools, by_pool

ATTRIBUTES = ("profession", "country", "famous_for")

QUESTIONS: dict[str, Pools] = {
    "profession": by_pool(
        train="What was the profession of {who}? / What did {who} do for a living? / What was the job of {who}? / "
        "What was {who} by profession? / Name the profession of {who}.",
        validation="Say what the profession of {who} was. / As what did {who} work?",
        test="Could you tell me the profession of {who}? / What kind of work did {who} do? / "
        "What was the occupation of {who}?",
    ),
    "country": by_pool(
        train="Which country did {who} come from? / From which country was {who}? / Where was {who} from? / "
        "What was the home country of {who}? / Name the country of {who}.",
        validation="Say which country {who} was from. / What nationality did {who} have?",
        test="Could you tell me which country {who} came from? / What was the nationality of {who}? / "
        "In which country was {who} born?",
    ),
    "famous_for": by_pool(
        train="What is {who} known for? / What is {who} famous for? / What made {who} famous? / "
        "Name something that {who} is known for. / Why do people know {who}?",
        validation="Say what {who} is famous for. / What is the best known achievement of {who}?",
        test="Could you tell me what {who} is known for? / What is {who} best known for? / "
        "What is the claim to fame of {who}?",
    ),
}


@dataclass(frozen=True)
class Famous:
    """A famous person; any of the values of an attribute is right."""

    key: str
    name: str
    facts: dict[str, tuple[str, ...]]


def _read(line: str) -> Famous:
    key, name, *values = line.split(" | ")
    return Famous(key, name, {a: tuple(v.split(", ")) for a, v in zip(ATTRIBUTES, values, strict=True)})


FAMOUS = tuple(_read(line) for line in lines("famous.txt"))
