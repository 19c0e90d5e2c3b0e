"""PaliGemma: no chat format; the prompt attends to itself in both directions, the answer does not."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature

from mllmeraser.models.families.assembled import load_processor
from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.own_processor import channel_box
from mllmeraser.models.families.pixels import PixelSpace

IMAGE = "<image>"


class PaliGemma(Family):
    """`PaliGemmaForConditionalGeneration`, of either version."""

    name = "paligemma"
    model_types = ("paligemma",)
    counted_by = "pixel_values"

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """The checkpoint's own `PaliGemmaProcessor`."""
        return load_processor(source, revision)

    def image_token(self, processor: Any) -> str:
        """`<image>`."""
        return IMAGE

    def render(self, processor: Any, prompt_text: str, has_image: bool) -> str:
        """The picture, the begin token, the question, a line break: what the model was trained on."""
        return f"{IMAGE if has_image else ''}{processor.tokenizer.bos_token}{prompt_text}\n"

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """`pixel_values` `(1, 3, height, width)`."""
        values = processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        return {"pixel_values": torch.as_tensor(values)}

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """One position per patch."""
        return int(processor.image_processor.image_seq_length)

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """`token_type_ids`: 0, the prompt."""
        return {"token_type_ids": torch.zeros_like(input_ids)}

    def answer_inputs(self, batch: BatchFeature, answers: Tensor) -> dict[str, Tensor]:
        """`token_type_ids` 1 on answers: otherwise the prompt would see what it is to be answered with."""
        return {"token_type_ids": answers.long()}

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Bounds of shape `(1, 3, 1, 1)`."""
        return channel_box(processor, batch)
