"""Names in one normal form, and whether a text holds one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.text import contains_words, words

APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'"))
JOINERS = "\u200c\u200d"
"""Format characters that are a part of the spelling in some scripts."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def clean_name(name: str) -> str:
    """A name as it is kept: composed (NFC), single blanks, without invisible marks.

    Raises:
        InputError: It has no letter.
    """
    seen = "".join(c for c in name if unicodedata.category(c) != "Cf" or c in JOINERS)
    kept = " ".join(unicodedata.normalize("NFC", seen).split())
    if not any(map(str.isalpha, kept)):
        raise InputError("a name has at least one letter")
    return kept


def name_words(text: str) -> list[str]:
    """The words of a text as names compare: composed, any case, one kind of apostrophe, no format characters."""
    return [unicodedata.normalize("NFC", word.casefold()) for word in _as_written(text)]


def holds_name(text: str, name: str) -> bool:
    """Whether a text has the words of a name in one run: "Al" is not in "also"."""
    said, named = name_words(text), name_words(name)
    return contains_words(said, named)


def names_somebody(text: str, names: Iterable[str]) -> bool:
    """Whether a text gives one of some names away.

    So does a name as in `holds_name`, without accents, or joined, and its first or last word in its own case ("Will"
    is not "will"). A single word of a script without blanks may be anywhere.
    """
    return any(_gives_away(text, name) for name in names)


def _gives_away(text: str, name: str) -> bool:
    written, plain = _as_written(name), words(name)
    if not written:
        return False
    joined = len(plain) > 1 and "".join(plain) in words(text)
    inside = len(written) == 1 and not name.isascii() and "".join(name_words(name)) in "".join(name_words(text))
    part = bool({written[0], written[-1]} & set(_as_written(text)))
    return joined or inside or part or holds_name(text, name) or contains_words(words(text), plain)


def _as_written(text: str) -> list[str]:
    """The words of a text in their own case, without format characters, and with one kind of apostrophe."""
    seen = "".join(c for c in text.translate(APOSTROPHES) if unicodedata.category(c) != "Cf")
    return _WORD.findall(unicodedata.normalize("NFC", seen))
