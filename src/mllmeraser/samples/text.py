"""Words of a text, and whether a value occurs in it as whole words."""

from __future__ import annotations

import re
import unicodedata

_NUMERALS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER_WORDS = {str(number): word for number, word in enumerate(_NUMERALS)}
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

_FUNCTION_WORDS = """
    a an the this that these those is are was were be been being am do does did has have had of in on at to
    for from by with as and or but if it its he she they them their his her him you your i me my we our us not
    there here who what which whose whom where when why how will would can could may might must shall should
    so than then too very just about into over under also
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def words(text: str) -> list[str]:
    """The words of a text: lower case, without accents, small numerals spelt out ("3" is "three")."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(mark for mark in plain if not unicodedata.combining(mark))
    return [_NUMBER_WORDS.get(word, word) for word in _WORD.findall(plain)]


def contains(text: str, value: str) -> bool:
    """Whether the words of `value` occur in `text` in one run; False if `value` has no words."""
    return contains_words(words(text), words(value))


def contains_words(text: list[str], value: list[str]) -> bool:
    """As `contains`, for texts already split into words."""
    size = len(value)
    return size > 0 and any(text[i : i + size] == value for i in range(len(text) - size + 1))


def content_words(text: str) -> list[str]:
    """The words of a text without articles, pronouns, auxiliaries and other function words."""
    return [word for word in words(text) if word not in FUNCTION_WORDS]
