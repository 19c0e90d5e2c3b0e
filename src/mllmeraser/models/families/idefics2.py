"""Idefics2: 64 latents per picture between two boundary tokens, or five times as many for split pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mllmeraser.models.families.base import PixelInputs
from mllmeraser.models.families.own_processor import OwnProcessor


class Idefics2(OwnProcessor):
    """`Idefics2ForConditionalGeneration`."""

    def __init__(self) -> None:
        inputs, paths = ("pixel_values", "pixel_attention_mask"), ("model.text_model.layers",)
        super().__init__("idefics2", ("idefics2",), inputs=inputs, decoder_paths=paths)

    def expand_all(self, processor: Any, text: str, pixels: Sequence[PixelInputs]) -> str:
        """As its processor, with a blank between the boundary token and a word right after it."""
        boundary = re.escape(str(processor.fake_image_token))
        written = super().expand_all(processor, text, pixels)
        return re.sub(rf"{boundary}(?=[^\s<])", lambda match: f"{match[0]} ", written)
