"""A conversation: turns of system, user and assistant, with pictures, up to an answer that may be begun already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from mllmeraser.samples.images import given_image

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says; pictures come before the text."""

    role: Role
    text: str
    images: tuple[Image.Image, ...] = ()

    def __post_init__(self) -> None:
        """Bring the pictures into their one form, as `Sample` does."""
        object.__setattr__(self, "images", tuple(given_image(image) for image in self.images))

    def message(self) -> dict[str, Any]:
        """The turn as chat templates take it."""
        pictures = [{"type": "image"} for _ in self.images]
        return {"role": self.role, "content": [*pictures, {"type": "text", "text": self.text}]}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order. `begun` is the start of the answer that the model has to continue."""

    turns: tuple[Turn, ...]
    begun: str = ""

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """All pictures, in order."""
        return tuple(image for turn in self.turns for image in turn.images)

    @property
    def text(self) -> str:
        """All that is said, for a search in it."""
        return "\n".join([*(turn.text for turn in self.turns), self.begun])


def plan(conversations: Sequence[Conversation], batch_size: int) -> list[list[int]]:
    """Row numbers of batches with equally many pictures and similar lengths."""
    order = sorted(range(len(conversations)), key=lambda i: (*_size(conversations[i]), i))
    batches: list[list[int]] = []
    for i in order:
        same = batches and _size(conversations[i])[0] == _size(conversations[batches[-1][0]])[0]
        if same and len(batches[-1]) < batch_size:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _size(conversation: Conversation) -> tuple[int, int]:
    """Pictures and characters."""
    return len(conversation.images), len(conversation.text)


def question(text: str, image: Image.Image | None = None) -> Conversation:
    """A conversation of one question."""
    return Conversation((Turn("user", text, () if image is None else (image,)),))


def after(earlier: Sequence[Turn], asked: Conversation) -> Conversation:
    """`asked`, with other turns before it."""
    return Conversation((*earlier, *asked.turns), asked.begun)
