"""Names in one normal form, and whether a text holds one."""

from __future__ import annotations

import re
import unicodedata

from mllmeraser.samples.errors import InputError

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
    seen = "".join(c for c in text.translate(APOSTROPHES) if unicodedata.category(c) != "Cf")
    return _WORD.findall(unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).casefold()))


def holds_name(text: str, name: str) -> bool:
    """Whether a text has the words of a name in one run: "Al" is not in "also"."""
    said, named = name_words(text), name_words(name)
    return bool(named) and any(said[i : i + len(named)] == named for i in range(len(said) - len(named) + 1))
