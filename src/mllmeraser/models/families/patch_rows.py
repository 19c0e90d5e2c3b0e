"""Pictures of any size as rows of patches, merged two by two, with three-axis positions: Qwen-VL, GLM-V."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import transformers
from torch import Tensor
from transformers import BatchFeature

from mllmeraser.models.families.assembled import load_or_assemble
from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.pixels import PixelSpace, channel_bounds


class PatchRows(Family):
    """A family with an image processor that returns `pixel_values` in rows of patches, and `image_grid_thw`.

    `pixel_values` are `(patches, channels * temporal * patch * patch)`, and `image_grid_thw` is `(1, 3)`.

    Attributes:
        model_class: Its top model in transformers; some versions of its forward take the type of each token.
        placeholder: The image token, if the tokenizer does not name it.
    """

    decoder_paths = ("model.language_model.layers", "model.layers")
    inputs = ("pixel_values", "image_grid_thw")
    counted_by = "image_grid_thw"

    def __init__(self, name: str, model_types: tuple[str, ...], model_class: str, placeholder: str) -> None:
        self.name, self.model_types = name, model_types
        self.model_class, self.placeholder = model_class, placeholder

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """The checkpoint's own processor, or without torchvision its parts."""
        return load_or_assemble(source, revision, self.placeholder)

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Patches over the square of the merge size."""
        return int(pixels["image_grid_thw"].prod()) // int(processor.image_processor.merge_size) ** 2

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """`mm_token_type_ids`, 1 at image positions, for versions that compute positions from it."""
        if not _forward_wants_token_types(self.model_class):
            return {}
        token = processor.tokenizer.convert_tokens_to_ids(self.image_token(processor))
        return {"mm_token_type_ids": (input_ids == token).long()}

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Bounds of shape `(1, channels * temporal * patch * patch)`; the channel is a row's outermost axis."""
        part = processor.image_processor
        copies = int(part.temporal_patch_size)
        repeat = copies * int(part.patch_size) ** 2
        lower, upper, scale = (one.repeat_interleave(repeat)[None] for one in channel_bounds(part))
        space = PixelSpace(lower, upper, scale, copies=copies, channels=scale.shape[1] // repeat)
        return space.to(batch["pixel_values"]) if "pixel_values" in batch else space


@lru_cache(maxsize=16)
def _forward_wants_token_types(model_class: str) -> bool:
    forward = getattr(transformers, model_class).forward
    return "mm_token_type_ids" in inspect.signature(forward).parameters
