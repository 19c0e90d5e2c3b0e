"""Whole words."""

from __future__ import annotations

import pytest

from mllmeraser.samples.text import contains, content_words, words


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("They work as a baker.", "baker", True),
        ("They work as a bakers.", "baker", False),
        ("Known for the Silver Tide!", "silver tide", True),
        ("Silver and Tide", "Silver Tide", False),
        ("There are 3 shapes", "three", True),
        ("Born in Málaga", "Malaga", True),
        ("ice-cream", "ice cream", True),
        ("anything", "", False),
        ("anything", "...", False),
    ],
)
def test_contains(text: str, value: str, found: bool) -> None:
    assert contains(text, value) is found


def test_words_and_content() -> None:
    assert words("It's the 1984 book, isn't it?") == ["it's", "the", "1984", "book", "isn't", "it"]
    assert content_words("They live in Rome") == ["live", "rome"]
