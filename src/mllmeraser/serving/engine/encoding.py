"""Encode rows as model inputs; an unreadable prompt does not affect the other rows."""

from __future__ import annotations

from transformers import BatchFeature

from mllmeraser.models.families.base import tokenize
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine.errors import EngineError
from mllmeraser.serving.engine.rows import Row, too_long


def check_context(model: MultimodalModel, text: str) -> None:
    """Raise `InputError` if a prompt leaves no room for an answer; a picture counts as one placeholder.

    Callers run this in their own thread: a long text would block the engine's thread, which checks again.
    """
    context = _context(model)
    if context is not None and (length := len(tokenize(model.processor, [text])[0])) >= context:
        raise too_long(length, context)


def encode_rows(model: MultimodalModel, rows: list[Row]) -> tuple[list[Row], BatchFeature | None]:
    """Return the readable rows and their inputs, or None without any; unreadable rows fail."""
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
    """Most tokens of a prompt and its answer together; None if the checkpoint states no limit."""
    context: int | None = getattr(model.family.text_config(model.hf), "max_position_embeddings", None)
    return context


def _encoded(model: MultimodalModel, rows: list[Row]) -> BatchFeature | None:
    prompts = [row.waiting.prompt for row in rows]
    return model.encode_texts([p.text for p in prompts], [p.images for p in prompts]) if prompts else None


def _readable(model: MultimodalModel, row: Row) -> bool:
    try:
        _encoded(model, [row])
    except InputError as error:
        row.fail(error)
    except Exception as error:
        row.fail(EngineError(f"the prompt could not be read ({type(error).__name__})"))
    return row.ended is None
