"""From rows to model inputs; a prompt that cannot be read does not hurt the others."""

from __future__ import annotations

from transformers import BatchFeature

from mllmeraser.models.families.base import tokenize
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine.errors import EngineError
from mllmeraser.serving.engine.rows import Row


def check_context(model: MultimodalModel, text: str) -> None:
    """Refuse a prompt in the chat format that leaves no room for an answer; its picture counts as one placeholder.

    For the threads of those who ask: a long text would hold up the engine's own, where it is looked at again.

    Raises:
        InputError: It is too long.
    """
    context = _context(model)
    if context is None:
        return
    length = len(tokenize(model.processor, [text])[0])
    if length >= context:
        raise InputError(f"the prompt has {length} tokens, the model reads {context - 1}: make it shorter")


def encode_rows(model: MultimodalModel, rows: list[Row]) -> tuple[list[Row], BatchFeature | None]:
    """The rows that can be answered, and their batch; the others have failed. None: there is none left."""
    try:
        inputs = _encoded(model, rows)
    except Exception:
        rows = [row for row in rows if _readable(model, row)]
        inputs = _encoded(model, rows)
    if inputs is None:
        return [], None
    context = _context(model)
    lengths = inputs["attention_mask"].sum(1).tolist()
    fitting = [row for row, length in zip(rows, lengths, strict=True) if row.fit(length, context)]
    return fitting, inputs if len(fitting) == len(rows) else _encoded(model, fitting)


def _context(model: MultimodalModel) -> int | None:
    """Tokens of a prompt and its answer at most; None where the checkpoint does not say."""
    context: int | None = getattr(model.family.text_config(model.hf), "max_position_embeddings", None)
    return context


def _encoded(model: MultimodalModel, rows: list[Row]) -> BatchFeature | None:
    if not rows:
        return None
    prompts = [row.waiting.prompt for row in rows]
    return model.encode_texts([prompt.text for prompt in prompts], [prompt.image for prompt in prompts])


def _readable(model: MultimodalModel, row: Row) -> bool:
    try:
        _encoded(model, [row])
    except InputError as error:
        row.fail(error)
    except Exception as error:
        row.fail(EngineError(f"the prompt could not be read ({type(error).__name__})"))
    return row.ended is None
