"""Pixtral towers, under Mistral 3 or under LLaVA: pictures of any size, a break token after each row of patches."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from mllmeraser.models.families.assembled import load_or_assemble
from mllmeraser.models.families.base import Family, PixelInputs

SETTINGS = ("patch_size", "spatial_merge_size", "image_break_token", "image_end_token")


class Pixtral(Family):
    """`Mistral3ForConditionalGeneration`, and `LlavaForConditionalGeneration` over a Pixtral tower."""

    name = "pixtral"
    model_types = ("mistral3", "llava/pixtral")
    inputs = ("pixel_values", "image_sizes")
    counted_by = "image_sizes"

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """`PixtralProcessor`, or without torchvision its parts."""
        return load_or_assemble(source, revision, "[IMG]", SETTINGS)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """`pixel_values` `(1, 3, height, width)` and `image_sizes` `(1, 2)`."""
        data = processor.image_processor(images=[image], patch_size=_cell(processor), return_tensors="pt")
        return {key: torch.as_tensor(data[key]) for key in self.inputs}

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Merged patches."""
        height, width = pixels["image_sizes"][0].tolist()
        return (height // _cell(processor)) * (width // _cell(processor))

    def expansion(self, processor: Any, pixels: PixelInputs) -> str:
        """Rows of placeholders with a break token between them, and the end token."""
        rows = int(pixels["image_sizes"][0, 0]) // _cell(processor)
        row = self.image_token(processor) * (self.placeholders(processor, pixels) // rows)
        stop = str(getattr(processor, "image_break_token", "[IMG_BREAK]"))
        return stop.join([row] * rows) + str(getattr(processor, "image_end_token", "[IMG_END]"))


def _cell(processor: Any) -> int:
    """Side in pixels of one prompt position."""
    return int(getattr(processor, "patch_size", 16)) * int(getattr(processor, "spatial_merge_size", 1))
