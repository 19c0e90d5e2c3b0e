"""Which option an answer chooses."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mllmeraser.samples.text import contains_words, words

Options = Sequence[tuple[str, str]]
_ALONE = re.compile(r"(?<![^\W_])(?<!['’])([A-H])(?![^\W_])(?!['’][a-z])")
_ARTICLE = re.compile(r"\s+(?!(?:or|and|is)\b)[a-z]")


def chosen_letter(answer: str, options: Options) -> str | None:
    """The first letter that stands alone and is an option; else the one option whose text is in the answer.

    "A" before a word in small letters is an article ("A baker."), a small letter counts only if it is the
    whole answer. None: the answer chooses nothing, or several options at once.
    """
    letters = [letter for letter, _ in options]
    whole = answer.strip(" \t\n.:;,()[]*'\"")
    if len(whole) == 1 and whole.upper() in letters:
        return whole.upper()
    for match in _ALONE.finditer(answer):
        letter = match.group(1)
        if letter in letters and not (letter == "A" and _ARTICLE.match(answer, match.end())):
            return letter
    said = words(answer)
    named = {letter: words(text) for letter, text in options if contains_words(said, words(text))}
    # "rose baker" also says "baker": the longer option is meant.
    longest = [k for k, text in named.items() if not _within_another(text, list(named.values()))]
    return longest[0] if len(longest) == 1 else None


def _within_another(text: list[str], texts: list[list[str]]) -> bool:
    return any(len(other) > len(text) and contains_words(other, text) for other in texts)


def first_letter(answer: str) -> str:
    """The rule of the official MLLMU-Bench script: the first character in upper case, whatever it is."""
    return answer.strip()[:1].upper()
