"""Tolerant reading of the fields of a row: encoded objects, spellings of keys, pictures, biographies.

Data sets in this schema differ in small ways: objects as JSON or as Python literals, `image` or `images`, IDs as
numbers. This file handles the differences.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.readers import image_from
from mllmeraser.samples.text import contains_words, words

_SKIPPED = ("appearance_detail", "appearance")
_NAME_KEYS = ("name", "full_name")
IDENTITY = ("name", "identity")


@dataclass(frozen=True)
class Person:
    """The name of a row's person, and the value of every attribute."""

    name: str | None
    facts: Mapping[str, str]

    def value(self, attribute: str | None) -> str | None:
        """The value of an attribute; `name` and `identity` both mean the name."""
        return self.name if attribute in IDENTITY else self.facts.get(attribute or "")

    def attribute_in(self, text: str, question: str) -> str | None:
        """The attribute with a value in `text` that is not in `question`."""
        said, asked = words(text), words(question)
        matches = [
            (len(value), attribute)
            for attribute, fact in self.facts.items()
            if contains_words(said, value := words(fact)) and not contains_words(asked, value)
        ]
        # The longest value wins: "head baker" before "baker".
        return max(matches)[1] if matches else None


def get(row: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that is in the row and not None, ignoring the case of the key."""
    fields = {str(key).casefold(): value for key, value in row.items()}
    values = (fields.get(name.casefold()) for name in names)
    return next((value for value in values if value is not None), None)


def parse(value: Any, where: str) -> Any:
    """An object from a string with JSON or a Python literal; other values as they are."""
    if not isinstance(value, str) or value.strip()[:1] not in ("{", "["):
        return value
    with suppress(ValueError, RecursionError):
        return json.loads(value)
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise InputError(f"{where}: neither JSON nor a Python literal: {value.strip()[:40]}...") from None


def identifier(row: Mapping[str, Any], where: str) -> str:
    """The ID of a row as text; some files store it as a number."""
    value = get(row, "ID", "unique_id")
    if value is None or not str(value).strip():
        raise InputError(f"{where}: the column ID is missing")
    return str(value).strip()


def pictures(row: Mapping[str, Any], where: str) -> list[Image.Image]:
    """The pictures of a row, from `images` (a list) or `image` (one); empty if it has none."""
    value = get(row, "images", "image")
    entries = value if isinstance(value, list | tuple) else [value]
    decoded = (image_from(entry, Path(), where) for entry in entries)
    return [image for image in decoded if image is not None]


def person(row: Mapping[str, Any], where: str) -> Person:
    """The person of a row, from its biography. Nested mappings are flattened, and free text is ignored."""
    biography = get(row, "biography")
    facts = dict(_leaves(parse(biography, where))) if biography is not None else {}
    names = [facts.pop(key) for key in _NAME_KEYS if key in facts]
    return Person(names[0] if names else None, facts)


def attribute_key(value: Any) -> str | None:
    """An attribute as a key: lower case, words joined by underscores."""
    key = re.sub(r"[\W_]+", "_", str(value).casefold()).strip("_") if value is not None else ""
    return key or None


def _leaves(value: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    for raw, entry in value.items():
        key = attribute_key(raw)
        if key is None or key in _SKIPPED:
            continue
        if isinstance(entry, Mapping):
            yield from _leaves(entry)
        elif isinstance(entry, str | int | float) and str(entry).strip():
            yield key, str(entry).strip()
