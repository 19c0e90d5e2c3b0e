"""Name grammars: people have four open syllables in two words, celebrities a consonant cluster in each word."""

from __future__ import annotations

from collections.abc import Callable

from mllmeraser.portraits.stream import Stream

_ONSETS = "bdfghklmnprstvz"
_VOWELS = "aeiou"
_CODAS = ("", "", "n", "r", "s", "l")
_CLUSTERS = ("br", "cl", "dr", "fl", "gr", "pl", "st", "tr", "sk", "ch", "sh", "th")


def _syllable(stream: Stream) -> str:
    return stream.choice(_ONSETS) + stream.choice(_VOWELS)


def person_name(stream: Stream) -> str:
    """A name such as "Kavon Lurita": about 10^8 possible names, so that a random one is new."""
    first = _syllable(stream) + _syllable(stream) + stream.choice(_CODAS)
    last = _syllable(stream) + _syllable(stream) + stream.choice(_CODAS)
    return f"{first.capitalize()} {last.capitalize()}"


def celebrity_name(stream: Stream) -> str:
    """A name such as "Stazo Brilun": another grammar, so that nobody confuses the two worlds."""
    words = []
    for _ in range(2):
        words.append(stream.choice(_CLUSTERS) + stream.choice(_VOWELS) + _syllable(stream) + stream.choice(_CODAS))
    return " ".join(word.capitalize() for word in words)


def distinct_names(
    stream: Stream, n: int, grammar: Callable[[Stream], str] = person_name, avoid: frozenset[str] = frozenset()
) -> list[str]:
    """``n`` names that share no word with each other or with ``avoid`` (a set of words)."""
    taken = set(avoid)
    names: list[str] = []
    while len(names) < n:
        name = grammar(stream)
        words = set(name.split())
        if len(words) == 2 and not words & taken:
            taken |= words
            names.append(name)
    return names
