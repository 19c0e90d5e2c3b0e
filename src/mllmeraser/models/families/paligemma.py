"""PaliGemma: no chat format; the prompt attends to itself in both directions, the answer does not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from mllmeraser.models.families.base import Family, PixelInputs

IMAGE = "<image>"


class PaliGemma(Family):
    """`PaliGemmaForConditionalGeneration`, of either version."""

    name = "paligemma"
    model_types = ("paligemma",)
    counted_by = "pixel_values"

    def image_token(self, processor: Any) -> str:
        """`<image>`."""
        return IMAGE

    def render(self, processor: Any, prompt_text: str, has_image: bool) -> str:
        """The picture, the begin token, the question and a line break, as in the model's training."""
        return f"{IMAGE if has_image else ''}{processor.tokenizer.bos_token}{prompt_text}\n"

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """One position per patch."""
        return int(processor.image_processor.image_seq_length)

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """`token_type_ids`: 0, the prompt."""
        return {"token_type_ids": torch.zeros_like(input_ids)}

    def answer_inputs(self, batch: BatchFeature, answers: Tensor) -> dict[str, Tensor]:
        """`token_type_ids` 1 on answers; otherwise the prompt would attend to the answer."""
        return {"token_type_ids": answers.long()}
