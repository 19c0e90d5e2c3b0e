"""A model that says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from mllmeraser.samples import Sample


class Parrot:
    """Stands in for a model: answers by a function of the sample, and remembers how it was asked."""

    name = "parrot"
    family = SimpleNamespace(name="llava")

    def __init__(self, say: Callable[[Sample], str]) -> None:
        self.say = say
        self.asked: list[Sample] = []
        self.options: list[dict[str, Any]] = []

    def generate(self, samples: Sequence[Sample], **options: Any) -> list[str]:
        self.asked += samples
        self.options.append(options)
        return [self.say(sample) for sample in samples]
