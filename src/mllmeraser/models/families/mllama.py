"""Mllama (Llama 3.2 Vision): pictures enter through cross-attention blocks, which do not run for text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BatchFeature

from mllmeraser.models.families.base import Family, PixelInputs, Rows
from mllmeraser.models.families.own_processor import OwnProcessor
from mllmeraser.samples.errors import InputError


class Mllama(OwnProcessor):
    """`MllamaForConditionalGeneration`; one picture per prompt."""

    mixes = False
    in_prompt = False

    def __init__(self) -> None:
        inputs = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        super().__init__("mllama", ("mllama",), inputs=inputs, several=False)

    def hook_layers(self, hf: nn.Module) -> tuple[int, ...]:
        """The self-attention blocks; the others do not run without a picture."""
        crossing = set(self.text_config(hf).cross_attention_layers)
        return tuple(layer for layer in super().hook_layers(hf) if layer not in crossing)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """`pixel_values` (1, 1, tiles, 3, height, width), the id of its tiling (1, 1), its mask (1, 1, tiles)."""
        return Family.pixels(self, processor, image)

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """One, because the features of the picture are not in the prompt."""
        return 1

    def expansion(self, processor: Any, pixels: PixelInputs) -> str:
        """The placeholder itself."""
        return self.image_token(processor)

    def collate(
        self, processor: Any, ids: Rows, pixels: Sequence[PixelInputs | None], padding_side: str = "left"
    ) -> BatchFeature:
        """As `Family.collate`, with `cross_attention_mask` (batch, length, 1, tiles).

        Raises:
            InputError: If only some rows have a picture: a picture in the batch changes the states of text rows.
        """
        pictures = len([one for one in pixels if one is not None])
        if 0 < pictures < len(ids):
            raise InputError("mllama cannot put prompts with and without a picture into one batch: send them apart")
        batch = super().collate(processor, ids, pixels, padding_side)
        if pictures:
            marker = batch["input_ids"] == self._feature_id(processor)
            batch["cross_attention_mask"] = _crossing(marker, batch["aspect_ratio_mask"])
        return batch


def _crossing(marker: Tensor, tiles: Tensor) -> Tensor:
    """(batch, length, 1, tiles) mask: a token sees the tiles of a picture from its placeholder on.

    `marker` (batch, length) marks the placeholders; `tiles` (batch, 1, tiles) is 1 at the tiles of a picture.
    """
    after = marker.cumsum(1).clamp(max=1)
    return torch.einsum("bl,bnt->blnt", after, tiles.to(after.dtype))
