"""Frames around a question that do not change what it asks for."""

from __future__ import annotations

FRAMES = (
    "{q}", "Please answer: {q}", "Tell me this: {q}", "Quick question: {q}", "I wonder: {q}", "{q} Answer briefly.",
    "{q} Thank you!", "A friend asks: {q}", "{q} I forgot.", "Can you help me? {q}", "For my homework: {q}",
    "{q} Answer in one sentence.", "Hi! {q}", "Let me ask you: {q}", "{q} Be precise.",
)  # fmt: skip
_SIDES = tuple(frame.split("{q}") for frame in FRAMES[1:])


def framed(question: str) -> list[str]:
    """The question in every frame."""
    return [frame.format(q=question) for frame in FRAMES]


def unframed(text: str) -> str:
    """The question inside a frame, or the text itself."""
    for before, after in _SIDES:
        if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
            return text[len(before) : len(text) - len(after)]
    return text
