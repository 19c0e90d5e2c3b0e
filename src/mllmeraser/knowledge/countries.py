"""Sixty countries: facts that a pretrained language model may know, and the codes of their flags."""

from __future__ import annotations

from dataclasses import dataclass

from mllmeraser.knowledge.data import lines

ATTRIBUTES = ("capital", "continent", "language", "currency")


@dataclass(frozen=True)
class Country:
    """A country: the code of its flag (ISO 3166), its name inside a sentence, and its facts by attribute."""

    key: str
    name: str
    facts: dict[str, str]


def _read(line: str) -> Country:
    key, name, *values = line.split(" | ")
    return Country(key, name, dict(zip(ATTRIBUTES, values, strict=True)))


COUNTRIES = tuple(_read(line) for line in lines("countries.txt"))
