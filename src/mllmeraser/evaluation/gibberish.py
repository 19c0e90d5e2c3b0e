"""Whether an answer is language at all: deterministic tests of its text, without a model.

Every test returns its reason in words, so a reader can check a table of outcomes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from mllmeraser.samples.text import FUNCTION_WORDS, words

_SAME_LETTER = re.compile(r"([^\W\d_])\1{4,}")
_SAME_SYLLABLE = re.compile(r"([^\W\d_]{2,3})\1{3,}")
_VOWEL = re.compile(r"[aeiouy]")
_LATIN = re.compile(r"[a-z]+")
_DANGLING = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "by", "with", "as", "and", "or", "their"}
)
_SHORT = 8
_MAX_REPEATS = 3
_UNKNOWN_SHARE = 0.5


def gibberish(text: str, vocabulary: Collection[str] | None = None) -> str | None:
    """Why `text` is not language, or None if it may be.

    `vocabulary` holds the words (see `samples.text.words`) of sensible answers, if they are known.
    """
    said = words(text)
    if not said:
        return "nothing but blanks and marks" if text.strip() else "empty"
    return _stuck(text, said) or _letters(said) or _fragment(text, said) or _strange(said, vocabulary)


def _stuck(text: str, said: Sequence[str]) -> str | None:
    """Repeated letters, words or groups of words."""
    if _SAME_LETTER.search(text.casefold()) or _SAME_SYLLABLE.search(text.casefold()):
        return "a letter or syllable repeated"
    for size in (1, 2, 3):
        run = _longest_run(said, size)
        if run >= _MAX_REPEATS:
            return f"the same {size} word(s) {run} times in a row"
    pairs = Counter(zip(said, said[1:], strict=False))
    if pairs and max(pairs.values()) > _MAX_REPEATS and 2 * max(pairs.values()) > len(said) / 2:
        return "made of one repeated pair of words"
    if len(said) >= 8 and len(set(said)) / len(said) < 0.4:
        return "fewer than two different words in five"
    return None


def _letters(said: Sequence[str]) -> str | None:
    """Single letters, or words without a vowel."""
    latin = [word for word in said if _LATIN.fullmatch(word)]
    loose = [word for word in said if len(word) == 1 and word not in ("a", "i")]
    if len(said) >= 3 and len(loose) > len(said) / 2:
        return "loose letters"
    mute = [word for word in latin if len(word) >= 3 and not _VOWEL.search(word)]
    if mute and len(mute) > len(latin) / 2:
        return "words without a vowel"
    return None


def _fragment(text: str, said: Sequence[str]) -> str | None:
    """A short sentence that stops too early; longer ones may have met the limit on new tokens."""
    if all(word in FUNCTION_WORDS for word in said):
        return "function words only"
    closed = text.rstrip().endswith((".", "!", "?", '"', "'"))
    if len(said) < _SHORT and not closed and len(said) > 1 and said[-1] in _DANGLING:
        return f"stops short after {said[-1]!r}"
    return None


def _strange(said: Sequence[str], vocabulary: Collection[str] | None) -> str | None:
    if vocabulary is None:
        return None
    strange = [word for word in said if word not in vocabulary]
    if len(strange) >= _UNKNOWN_SHARE * len(said):
        return f"{len(strange)} of {len(said)} words in no text of the benchmark ({strange[0]!r})"
    return None


def _longest_run(said: Sequence[str], size: int) -> int:
    """The largest number of direct repetitions of a group of `size` words."""
    best = 1 if len(said) >= size else 0
    for start in range(size):
        groups = [tuple(said[i : i + size]) for i in range(start, len(said) - size + 1, size)]
        run = 1
        for previous, group in zip(groups, groups[1:], strict=False):
            run = run + 1 if group == previous else 1
            best = max(best, run)
    return best
