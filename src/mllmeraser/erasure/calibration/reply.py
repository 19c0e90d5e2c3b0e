"""The sentence of the action `reply`: a given one, or what the model itself says of people whom it does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mllmeraser.erasure.artifact.manifest import Reply
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample

ASKED = 16
"""Prompts about strangers; their answers are compared."""


def reply_of(model: MultimodalModel, settings: FitSettings, strangers: Sequence[Sample]) -> Reply:
    """The sentence of the settings, or the model's own; see `own_sentence` for `strangers`, `in_tokens` for errors."""
    return in_tokens(model, settings.reply or own_sentence(model, settings, strangers))


def in_tokens(model: MultimodalModel, text: str) -> Reply:
    """A sentence in tokens of `model`, for `Eraser.with_action`.

    Raises:
        InputError: It has no tokens, or the model has no token that ends an answer.
    """
    listed: Any = getattr(model.hf.generation_config, "eos_token_id", None)
    ends = [*(listed if isinstance(listed, (list, tuple)) else [listed]), model.processor.tokenizer.eos_token_id]
    end = next((int(token) for token in ends if token is not None), None)
    if end is None:
        raise InputError("this model has no token that ends an answer, so it cannot reply with a sentence")
    labels = model.encode_answers([Sample("Who is this?")], [text], end=False)["labels"][0]
    return Reply(text=text, tokens=(*labels[labels != IGNORED].tolist(), end))


def own_sentence(model: MultimodalModel, settings: FitSettings, strangers: Sequence[Sample]) -> str:
    """The bare model's answer to at least half of some prompts about `strangers`, or else `idk_answer`."""
    asked = strangers[:: max(1, len(strangers) // ASKED)][:ASKED]
    answers = model.generate(asked, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size)
    text, n = Counter(answers).most_common(1)[0] if answers else ("", 0)
    return text if text and 2 * n >= len(asked) else settings.direction.idk_answer
