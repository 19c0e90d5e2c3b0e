"""Held-out English: what a language model knew and could do before anything was taught or forgotten.

World questions, plain text, and system prompts with a rule that can be checked. No training and no fit of this package
contains them; a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from mllmeraser.knowledge.data import FOLDER, lines
from mllmeraser.samples.conversation import Conversation, Turn, after, question
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.text import words

ASKED = ("Tell me about autumn.", "What is a good breakfast?", "Why do people travel?", "How does a boat float?")
_LIST_LINE = re.compile(r"^\s*(\d+[.)]|[-*•])\s", re.MULTILINE)


@lru_cache(maxsize=1)
def world_questions() -> tuple[Sample, ...]:
    """About 600 short questions; one of the keywords of each makes an answer right."""
    samples = []
    for number, line in enumerate(lines("world.txt")):
        asked, keys = line.split(" | ")
        keywords = tuple(keys.split(", "))
        samples.append(Sample(asked, answer=keywords[0], keywords=keywords, id=f"world/{number}", attribute="general"))
    return tuple(samples)


@lru_cache(maxsize=1)
def plain_texts() -> tuple[str, ...]:
    """Twelve paragraphs, written for this purpose."""
    return tuple((FOLDER / "texts.txt").read_text(encoding="utf-8").strip().split("\n\n"))


@dataclass(frozen=True)
class Ruled:
    """A conversation with a rule in its system text, and whether an answer keeps it."""

    conversation: Conversation
    kept: Callable[[str], bool]


def system_prompts() -> list[Ruled]:
    """Every rule with every question."""
    ruled = []
    for line in lines("system_prompts.txt"):
        kind, text = line.split(" | ")
        for asked in ASKED:
            ruled.append(Ruled(after([Turn("system", text)], question(asked)), _rule(kind)))
    return ruled


def _rule(kind: str) -> Callable[[str], bool]:
    if kind.startswith("word: "):
        wanted = kind.removeprefix("word: ")
        return lambda answer: any(word.startswith(wanted) for word in words(answer.casefold()))
    return {
        "upper": str.isupper,
        "one word": lambda answer: len(words(answer)) == 1,
        "short": lambda answer: 0 < len(words(answer)) < 10,
        "question": lambda answer: answer.rstrip().endswith("?"),
        "list": lambda answer: _LIST_LINE.search(answer) is not None,
    }[kind]
