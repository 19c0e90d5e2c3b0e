"""Prompts of several turns, each with its own picture or none."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from transformers import BatchFeature

from mllmeraser.evaluation.few_shot import shots_of
from mllmeraser.models.families.base import PixelInputs, tokenize
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import Prompts
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample


def reading_context(model: MultimodalModel) -> MultimodalModel:
    """The same model (weights and attached interventions), with prompts that show the shots of samples."""
    reader = copy.copy(model)
    reader.prompts = ContextPrompts(model.family, model.processor)
    return reader


class ContextPrompts(Prompts):
    """Prompts with several turns and pictures in the checkpoint's chat format; for answers, not for losses."""

    def text(self, sample: Sample) -> str:
        """Rendered conversation, with a placeholder for every picture."""
        shots = shots_of(sample)
        if not shots:
            return super().text(sample)
        messages = [message for shot in shots for message in (_asked(shot), _answered(shot))]
        messages.append(_asked(sample))
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def encode(self, samples: Sequence[Sample], padding_side: str = "left") -> BatchFeature:
        """One batch, rows in the order of `samples` (see `Family.encode`).

        Raises:
            InputError: The placeholders in a text do not match the pictures of its sample.
        """
        pixels = [self._pictures(sample) for sample in samples]
        texts = [
            self.family.expand_all(self.processor, self.text(sample), row)
            for sample, row in zip(samples, pixels, strict=True)
        ]
        flat = [one for row in pixels for one in row]
        return self.family.collate(self.processor, tokenize(self.processor, texts), flat, padding_side)

    def _pictures(self, sample: Sample) -> list[PixelInputs]:
        return [self.pixels(turn.image) for turn in (*shots_of(sample), sample) if turn.image is not None]


def _asked(sample: Sample) -> dict[str, Any]:
    content: list[dict[str, str]] = [{"type": "image"}] if sample.image is not None else []
    return {"role": "user", "content": [*content, {"type": "text", "text": sample.prompt}]}


def _answered(sample: Sample) -> dict[str, Any]:
    if sample.answer is None:
        raise InputError(f"{sample.id or sample.question!r}: an item in context needs its answer")
    return {"role": "assistant", "content": [{"type": "text", "text": sample.answer}]}
