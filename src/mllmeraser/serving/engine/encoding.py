"""From rows to model inputs; a prompt that cannot be read does not hurt the others."""

from __future__ import annotations

from transformers import BatchFeature

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.serving.engine.errors import EngineError
from mllmeraser.serving.engine.rows import Row


def encode_rows(model: MultimodalModel, rows: list[Row]) -> tuple[list[Row], BatchFeature | None]:
    """The rows that can be answered, and their batch; the others have failed. None: there is none left."""
    try:
        inputs = _encoded(model, rows)
    except Exception:
        rows = [row for row in rows if _readable(model, row)]
        inputs = _encoded(model, rows)
    if inputs is None:
        return [], None
    context = getattr(model.family.text_config(model.hf), "max_position_embeddings", None)
    lengths = inputs["attention_mask"].sum(1).tolist()
    fitting = [row for row, length in zip(rows, lengths, strict=True) if row.fit(length, context)]
    return fitting, inputs if len(fitting) == len(rows) else _encoded(model, fitting)


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
