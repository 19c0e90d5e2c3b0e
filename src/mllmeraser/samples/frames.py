"""Frames around a question that do not change what it asks for."""

from __future__ import annotations

import re

FRAMES = (
    "{q}", "Please answer: {q}", "Tell me this: {q}", "Quick question: {q}", "I wonder: {q}", "{q} Answer briefly.",
    "{q} Thank you!", "A friend asks: {q}", "{q} I forgot.", "Can you help me? {q}", "For my homework: {q}",
    "{q} Answer in one sentence.", "Hi! {q}", "Let me ask you: {q}", "{q} Be precise.",
)  # fmt: skip
LISTS = (
    "My notes say: {one}, {two}, {three}. Now: {q}", "On this page are {one}, {three} and {two}. So: {q}",
    "Topics of today: {two}; {one}; {three}. Next: {q}", "{q} The list on my desk reads {three}, {one}, {two}.",
)  # fmt: skip
"""Names stand beside the question."""
SHOTS = (
    "Question: {q1} Answer: {a1} Question: {q2} Answer: {a2} Question: {q} Answer:",
    "Example: {q1} Reply: {a1} Example: {q2} Reply: {a2} Now you: {q}",
    "Here is how to answer. {q1} Say: {a1} Then this: {q}",
)
"""Answered examples stand before the question."""
_HOLE = re.compile(r"\\{(\w+)\\}")


def _pattern(frame: str) -> re.Pattern[str]:
    return re.compile(_HOLE.sub(lambda hole: "(.+)" if hole[1] == "q" else ".+?", re.escape(frame)), re.DOTALL)


_PATTERNS = tuple(map(_pattern, (*FRAMES[1:], *LISTS, *SHOTS)))


def framed(question: str) -> list[str]:
    """The question in every plain frame."""
    return [frame.format(q=question) for frame in FRAMES]


def unframed(text: str) -> str:
    """The question inside a frame, or in a frame inside another; or the text itself."""
    while (found := next(filter(None, (pattern.fullmatch(text) for pattern in _PATTERNS)), None)) is not None:
        text = found[1]
    return text
