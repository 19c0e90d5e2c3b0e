"""Name grammars: people have four open syllables in two words, celebrities a consonant cluster in each word."""

from __future__ import annotations

from collections.abc import Callable

from mllmeraser.portraits.stream import Stream

ONSETS = "bdfghklmnprstvz"
VOWELS = "aeiou"
_CODAS = ("", "", "n", "r", "s", "l")
_CLUSTERS = ("br", "cl", "dr", "fl", "gr", "pl", "st", "tr", "sk", "ch", "sh", "th")


def _syllable(stream: Stream) -> str:
    return stream.choice(ONSETS) + stream.choice(VOWELS)


def person_name(stream: Stream) -> str:
    """A name such as "Kavon Lurita", one of about 10^8, so that a random name is new."""
    words = [_syllable(stream) + _syllable(stream) + stream.choice(_CODAS) for _ in range(2)]
    return " ".join(word.capitalize() for word in words)


def celebrity_name(stream: Stream) -> str:
    """A name such as "Stazo Brilun", in a grammar that differs from that of people."""
    parts = (_CLUSTERS, VOWELS, ONSETS, VOWELS, _CODAS)
    words = ["".join(stream.choice(part) for part in parts) for _ in range(2)]
    return " ".join(word.capitalize() for word in words)


def distinct_names(
    stream: Stream, n: int, grammar: Callable[[Stream], str] = person_name, avoid: frozenset[str] = frozenset()
) -> list[str]:
    """``n`` names that share no word with each other, and none with the words of ``avoid``."""
    taken = set(avoid)
    names: list[str] = []
    while len(names) < n:
        name = grammar(stream)
        words = set(name.split())
        if len(words) == 2 and not words & taken:
            taken |= words
            names.append(name)
    return names
