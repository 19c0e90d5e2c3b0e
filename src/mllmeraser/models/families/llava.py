"""LLaVA and VipLLaVA: projected CLIP features at the `<image>` positions of a Llama-like decoder."""

from __future__ import annotations

from typing import Any

from mllmeraser.models.families.base import Family, PixelInputs


class Llava(Family):
    """`LlavaForConditionalGeneration`: LLaVA-1.5 and its relatives with one picture size."""

    name = "llava"
    model_types: tuple[str, ...] = ("llava",)
    counted_by = "pixel_values"

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """One position per patch, plus the class tokens of the vision tower, minus the one it drops."""
        height, width = pixels["pixel_values"].shape[-2:]
        patches = (height // processor.patch_size) * (width // processor.patch_size)
        dropped = 1 if processor.vision_feature_select_strategy == "default" else 0
        return int(patches + processor.num_additional_image_tokens - dropped)


class VipLlava(Llava):
    """`VipLlavaForConditionalGeneration`: features of five CLIP layers side by side; prompts as for LLaVA."""

    name = "vipllava"
    model_types = ("vipllava",)
