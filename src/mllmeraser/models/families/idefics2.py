"""Idefics2: 64 latents per picture between two boundary tokens, five times over where pictures are split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mllmeraser.models.families.base import PixelInputs
from mllmeraser.models.families.own_processor import OwnProcessor


class Idefics2(OwnProcessor):
    """`Idefics2ForConditionalGeneration`."""

    def __init__(self) -> None:
        """Describe it."""
        super().__init__(
            "idefics2",
            ("idefics2",),
            inputs=("pixel_values", "pixel_attention_mask"),
            decoder_paths=("model.text_model.layers",),
        )

    def expand_all(self, processor: Any, text: str, pixels: Sequence[PixelInputs]) -> str:
        """As its processor does: a blank between the boundary token and a word that touches it."""
        boundary = re.escape(str(processor.fake_image_token))
        written = super().expand_all(processor, text, pixels)
        return re.sub(rf"{boundary}(?=[^\s<])", lambda found: f"{found[0]} ", written)
