"""The Sample: one image (or none), one question, optionally the answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mllmeraser.samples.conversation import Turn
from mllmeraser.samples.images import given_image

Task = Literal["classification", "generation", "cloze"]
Modality = Literal["image", "text"]

IMPERSONAL = frozenset({"perception", "general"})
"""Attributes of samples that ask for no personal fact: the content of a picture, or general knowledge."""
IDENTITY = "identity"
"""Attribute of samples that ask who a person is."""
LETTER_INSTRUCTION = "Answer with one letter."


@dataclass(frozen=True, slots=True)
class Sample:
    """One item: a question, its image, and the right answer.

    Attributes:
        question: Full text of the question; for classification without the options.
        image: Picture in any mode, kept as upright RGB; or None for a text-only question.
        answer: Gold sentence or value; for classification the letter.
        task: How the answer is scored.
        options: For classification, pairs of letter and value in the order shown: `(("A", "baker"), ...)`.
        keywords: For generation and cloze; the answer counts as recall if one occurs as a whole word. For cloze
            the gold value.
        subject: Key of the person or concept the item is about.
        id: Stable identifier of the item within its source.
        attribute: The attribute of the subject in question, for example `"occupation"`.
        before: What was said before the question, without pictures: a system message, earlier turns.
    """

    question: str
    image: Image.Image | None = None
    answer: str | None = None
    task: Task = "generation"
    options: tuple[tuple[str, str], ...] = ()
    keywords: tuple[str, ...] = ()
    subject: str | None = None
    id: str = ""
    attribute: str | None = None
    before: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        """Bring the picture into its one form (see `as_rgb`); one that has none is an `InputError`."""
        if self.image is not None:
            object.__setattr__(self, "image", given_image(self.image))

    @property
    def modality(self) -> Modality:
        """`"image"` with a picture, else `"text"`."""
        return "text" if self.image is None else "image"

    @property
    def prompt(self) -> str:
        """The question as the model sees it, with the options of a classification."""
        if self.task != "classification" or not self.options:
            return self.question
        lines = [f"{letter}: {value}" for letter, value in self.options]
        return "\n".join([self.question, *lines, LETTER_INSTRUCTION])

    def digest(self) -> str:
        """SHA-256 (hex) over the prompt, what came before it, the size of the picture and its RGB bytes."""
        digest = hashlib.sha256(self.prompt.encode())
        for turn in self.before:
            digest.update(f"\0{turn.role}\0{turn.text}".encode())
        if self.image is not None:
            digest.update(b"\0image\0%dx%d\0" % self.image.size)
            digest.update(self.image.tobytes())
        return digest.hexdigest()
