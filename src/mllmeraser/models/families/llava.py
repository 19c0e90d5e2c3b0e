"""LLaVA and VipLLaVA: CLIP features, projected, in place of `<image>` in the prompt of a Llama-like decoder."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, BatchFeature

from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.pixels import PixelSpace, channel_bounds


class Llava(Family):
    """`LlavaForConditionalGeneration`: LLaVA-1.5 and its relatives with one picture size."""

    name = "llava"
    model_types: tuple[str, ...] = ("llava",)
    counted_by = "pixel_values"

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """The checkpoint's own `LlavaProcessor`."""
        return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)

    def image_token(self, processor: Any) -> str:
        """Usually `<image>`."""
        return str(processor.image_token)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """`pixel_values` `(1, 3, height, width)`."""
        values = processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        return {"pixel_values": torch.as_tensor(values)}

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """One position per patch, plus class tokens the vision tower adds, less the one it drops."""
        height, width = pixels["pixel_values"].shape[-2:]
        patches = (height // processor.patch_size) * (width // processor.patch_size)
        dropped = 1 if processor.vision_feature_select_strategy == "default" else 0
        return int(patches + processor.num_additional_image_tokens - dropped)

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Bounds of shape `(1, 3, 1, 1)`."""
        lower, upper, scale = (part.view(1, -1, 1, 1) for part in channel_bounds(processor.image_processor))
        space = PixelSpace(lower, upper, scale, channels=scale.shape[1])
        return space.to(batch["pixel_values"]) if "pixel_values" in batch else space


class VipLlava(Llava):
    """`VipLlavaForConditionalGeneration`: features of five CLIP layers side by side; prompts as for LLaVA."""

    name = "vipllava"
    model_types = ("vipllava",)
