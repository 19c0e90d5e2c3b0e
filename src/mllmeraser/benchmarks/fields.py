"""Reading the fields of a row tolerantly: encoded objects, spellings of keys, pictures, biographies.

Data sets in this schema differ in small ways: objects stored as JSON or as Python literals, `image` or
`images`, `multimodal` misspelt as `muitimodal`, IDs as numbers. Everything that knows about that stands here.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
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
    """What a row says about its person: the name, and the value of every attribute."""

    name: str | None
    facts: Mapping[str, str]

    def value(self, attribute: str | None) -> str | None:
        """The value of an attribute; `name` and `identity` both mean the name."""
        if attribute in IDENTITY:
            return self.name
        return self.facts.get(attribute or "")

    def attribute_in(self, text: str, question: str) -> str | None:
        """The attribute whose value stands in `text` and not already in `question`."""
        told, asked = words(text), words(question)
        found = [
            (len(value), attribute)
            for attribute, fact in self.facts.items()
            if contains_words(told, value := words(fact)) and not contains_words(asked, value)
        ]
        # The longest value wins: "head baker" says more than "baker".
        return max(found)[1] if found else None


def get(row: Mapping[str, Any], *names: str) -> Any:
    """The first of these fields that the row has and that is not None, whatever the case of the key."""
    keys = {str(key).casefold(): key for key in row}
    for name in names:
        key = keys.get(name.casefold())
        if key is not None and row[key] is not None:
            return row[key]
    return None


def parse(value: Any, where: str) -> Any:
    """An object from a JSON string or a string with a Python literal; other values as they are."""
    if not isinstance(value, str) or value.strip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise InputError(f"{where}: neither JSON nor a Python literal: {value.strip()[:40]}...") from None


def identifier(row: Mapping[str, Any], where: str) -> str:
    """The ID of a row as text, since some files store it as a number."""
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
    """The person of a row, from its biography; nested mappings are flattened, free text says nothing."""
    biography = get(row, "biography")
    facts = dict(_leaves(parse(biography, where))) if biography is not None else {}
    names = [facts.pop(key) for key in _NAME_KEYS if key in facts]
    return Person(names[0] if names else None, facts)


def attribute_key(value: Any) -> str | None:
    """An attribute as a key: lower case, words joined by underscores; None for none."""
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
