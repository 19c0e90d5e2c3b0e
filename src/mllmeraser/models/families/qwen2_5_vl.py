"""Qwen2.5-VL: pictures of any size as rows of patches, merged two by two, with three-axis positions."""

from __future__ import annotations

import inspect
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, BatchFeature, ProcessorMixin

from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.pixels import PixelSpace, channel_bounds


class AssembledProcessor:
    """Image processor, tokenizer and chat template of a checkpoint, without the video processor.

    `AutoProcessor` insists on a video processor for this family, and that one on torchvision. Still pictures
    need neither. Everything this package does with a processor goes through these three parts.
    """

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        """Put the parts together; without `chat_template` the tokenizer's own is used."""
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.chat_template = chat_template or tokenizer.chat_template
        self.image_token: str = getattr(tokenizer, "image_token", None) or "<|image_pad|>"

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        """Render messages with the checkpoint's template (options as in transformers)."""
        return self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the parts in the ordinary checkpoint layout, readable by `AutoProcessor` as well."""
        self.tokenizer.chat_template = self.chat_template
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


class Qwen25VL(Family):
    """`Qwen2_5_VLForConditionalGeneration`."""

    name: ClassVar[str] = "qwen2.5-vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    decoder_paths: ClassVar[tuple[str, ...]] = ("model.language_model.layers", "model.layers")

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """`AutoProcessor` where it works, else the assembled parts."""
        try:
            return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
        except (ImportError, AttributeError, TypeError, ValueError, OSError):
            # Without torchvision the failure comes as any of these, depending on the version of
            # transformers; a checkpoint that is really broken fails again below, with its own message.
            return self._assemble(source, revision)

    def _assemble(self, source: str, revision: str | None) -> AssembledProcessor:
        image_processor = AutoImageProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        settings, _ = ProcessorMixin.get_processor_dict(source, revision=revision)
        return AssembledProcessor(image_processor, tokenizer, settings.get("chat_template"))

    def image_token(self, processor: Any) -> str:
        """Usually `<|image_pad|>`; the template frames it with vision start and end tokens."""
        return str(processor.image_token)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """`pixel_values` `(patches, channels * temporal * patch * patch)` and `image_grid_thw` `(1, 3)`."""
        data = processor.image_processor(images=[image], return_tensors="pt")
        return {key: torch.as_tensor(data[key]) for key in ("pixel_values", "image_grid_thw")}

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Patches over the square of the merge size."""
        return int(pixels["image_grid_thw"].prod()) // int(processor.image_processor.merge_size) ** 2

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """`mm_token_type_ids`: 1 on image positions; newer versions build their positions from it."""
        if not _forward_wants_token_types():
            return {}
        token = processor.tokenizer.convert_tokens_to_ids(self.image_token(processor))
        return {"mm_token_type_ids": (input_ids == token).long()}

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Bounds of shape `(1, channels * temporal * patch * patch)`; channel is a row's outermost axis."""
        part = processor.image_processor
        copies = int(part.temporal_patch_size)
        repeat = copies * int(part.patch_size) ** 2
        lower, upper, scale = (one.repeat_interleave(repeat)[None] for one in channel_bounds(part))
        space = PixelSpace(lower, upper, scale, copies=copies, channels=scale.shape[1] // repeat)
        return space.to(batch["pixel_values"]) if "pixel_values" in batch else space


@lru_cache(maxsize=1)
def _forward_wants_token_types() -> bool:
    from transformers import Qwen2_5_VLForConditionalGeneration

    parameters = inspect.signature(Qwen2_5_VLForConditionalGeneration.forward).parameters
    return "mm_token_type_ids" in parameters
