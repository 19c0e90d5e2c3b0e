"""The sentence of the action `reply`: a given one, or what the model itself says of people whom it does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mllmeraser.erasure.artifact.manifest import Reply
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED, end_tokens
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.names import names_somebody
from mllmeraser.samples.sample import Sample

ASKED = 16
"""Prompts about strangers; their answers are compared."""


def reply_of(
    model: MultimodalModel, settings: FitSettings, strangers: Sequence[Sample], names: Sequence[str] = ()
) -> Reply:
    """The sentence of the settings, or the model's own (see `own_sentence`), without the `names` of subjects.

    Raises:
        InputError: A given sentence holds a name. For further errors see `in_tokens`.
    """
    if settings.reply is not None and names_somebody(settings.reply, names):
        raise InputError("the reply holds a name of somebody to forget: leave it out")
    text = own_sentence(model, settings, strangers, names) if settings.reply is None else settings.reply
    return in_tokens(model, text)


def in_tokens(model: MultimodalModel, text: str) -> Reply:
    """A sentence in tokens of `model`, for `Eraser.with_action`.

    Raises:
        InputError: It is blank or holds a control token, or the model has no token that ends an answer.
    """
    if not text.strip():
        raise InputError("the reply is empty")
    ends = end_tokens(model.hf, model.processor)
    if not ends:
        raise InputError("this model has no token that ends an answer, so it cannot reply with a sentence")
    labels = model.encode_answers([Sample("Who is this?")], [text], end=False)["labels"][0]
    tokens = labels[labels != IGNORED].tolist()
    control = {*ends, model.family.image_token_id(model.hf), *model.processor.tokenizer.all_special_ids}
    if control & set(tokens):
        raise InputError("the reply holds a control token of this model")
    return Reply(text=text, tokens=(*tokens, ends[0]))


def own_sentence(
    model: MultimodalModel, settings: FitSettings, strangers: Sequence[Sample], names: Sequence[str] = ()
) -> str:
    """The bare model's answer to at least half of some prompts about `strangers`, or else `idk_answer`.

    An answer that was cut, or holds one of `names`, does not count.
    """
    asked = strangers[:: max(1, len(strangers) // ASKED)][:ASKED]
    answers = model.generate(asked, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size)
    text, n = Counter(answers).most_common(1)[0] if answers else ("", 0)
    whole = text.endswith((".", "!", "?", "\u3002")) and not names_somebody(text, names)
    return text if whole and 2 * n >= len(asked) else settings.direction.idk_answer
