"""The subjects that the shipped sets know: which one a request means, and which of its facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mllmeraser.knowledge.concepts import CONCEPTS, Concept
from mllmeraser.knowledge.countries import COUNTRIES, Country
from mllmeraser.knowledge.famous import FAMOUS, Famous
from mllmeraser.knowledge.famous import QUESTIONS as FAMOUS_QUESTIONS
from mllmeraser.knowledge.topics import TOPICS, Topic
from mllmeraser.knowledge.wordings import QUESTIONS
from mllmeraser.portraits.wordings import Pools, fill
from mllmeraser.samples.text import words

Known = Country | Famous | Topic | Concept
KNOWN: tuple[Known, ...] = (*COUNTRIES, *FAMOUS, *TOPICS, *CONCEPTS)
ALIASES: Mapping[str, tuple[str, ...]] = {
    "us": ("USA", "US", "America", "United States of America"),
    "gb": ("UK", "Great Britain", "Britain", "England"),
    "nl": ("Holland",), "cz": ("Czechia",), "kr": ("Korea", "Republic of Korea"), "cn": ("People's Republic of China",),
    "ru": ("Russian Federation",), "tr": ("Türkiye",), "galileo": ("Galileo",), "davinci": ("Leonardo",),
    "presley": ("Elvis",), "mozart": ("Mozart",), "napoleon": ("Napoleon",), "bach": ("Bach",),
}  # fmt: skip
"""Other names of some subjects."""


def find(names: Iterable[str]) -> Known | None:
    """The shipped subject of one of these names."""
    wanted = {_plain(name) for name in names}
    return next((one for one in KNOWN if wanted & {_plain(name) for name in names_of(one)}), None)


def names_of(known: Known) -> tuple[str, ...]:
    """All names of a shipped subject."""
    return (known.name, *(known.aliases if isinstance(known, Topic) else ALIASES.get(known.key, ())))


def wordings(known: Known) -> Mapping[str, Pools]:
    """Wordings of the questions for each of its facts, without a picture; a scene concept has none."""
    if isinstance(known, Topic | Concept):
        return known.questions if isinstance(known, Topic) else {}
    return QUESTIONS if isinstance(known, Country) else FAMOUS_QUESTIONS


def asked_for(known: Known, questions: Iterable[str]) -> set[str]:
    """The facts that questions ask for, whatever their case, punctuation and articles."""
    said = {_plain(question) for question in questions}
    return {
        attribute
        for attribute, pools in wordings(known).items()
        for texts in pools.values()
        for text in texts
        if said & {_plain(fill(text, name)) for name in names_of(known)}
    }


def _plain(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if word not in ("the", "please"))
