"""One question, one answer, and what the gates read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.attach import attach_all
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import open_image
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class Reading:
    """What the gate of one eraser read at one question."""

    eraser: str
    score: float
    threshold: float | None
    fired: bool
    layers: dict[int, float]

    def line(self) -> str:
        """The reading in one line."""
        limit = "" if self.threshold is None else f", threshold {self.threshold:.2f}"
        return f"{self.eraser}: gate {self.score:.2f}{limit}: {'acts' if self.fired else 'does not act'}"


@dataclass(frozen=True)
class Answer:
    """One answer, and what the gates read."""

    answer: str
    readings: tuple[Reading, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def ask(
    model: str | MultimodalModel,
    question: str,
    *,
    image: Path | None = None,
    erasers: Sequence[str | Path | Eraser] = (),
    max_new_tokens: int = 32,
) -> Answer:
    """Ask one question, with erasers attached."""
    if not question.strip():
        raise InputError("the question is empty")
    picture = None if image is None else open_image(image)
    named = load_erasers(erasers)
    loaded = load_model(model) if isinstance(model, str) else model
    sample = Sample(question, picture)
    if not named:
        return Answer(loaded.generate([sample], max_new_tokens=max_new_tokens)[0])
    with attach_all(loaded, named) as attachment:
        text = loaded.generate([sample], max_new_tokens=max_new_tokens)[0]
        seen = attachment.readings
    assert seen is not None
    readings = [
        Reading(
            name,
            float(seen.pooled[0, i]),
            eraser.config.threshold,
            bool(seen.amplitudes[0, i] != 0),
            {layer: float(scores[0].amax()) for layer, scores in seen.per_layer[name].items()},
        )
        for i, (name, eraser) in enumerate(named.items())
    ]
    return Answer(text, tuple(readings))


def load_erasers(erasers: Iterable[str | Path | Eraser]) -> dict[str, Eraser]:
    """Erasers by the name of their folder; two folders of one name are numbered."""
    found: dict[str, Eraser] = {}
    for entry in erasers:
        eraser = entry if isinstance(entry, Eraser) else Eraser.from_pretrained(entry)
        name = eraser.name if isinstance(entry, Eraser) else Path(entry).name
        while name in found:
            name += "+"
        found[name] = eraser
    return found
