"""Image processors that replace those with torchvision: same names and shapes, a plain resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

SIDE = 16


def flat(images: Any) -> list[Image.Image]:
    if isinstance(images, (list, tuple)):
        return [picture for one in images for picture in flat(one)]
    return [images]


def tile(image: Image.Image) -> torch.Tensor:
    """(3, SIDE, SIDE) in -1..1."""
    small = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32)
    return torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)


def halves(image: Image.Image) -> Sequence[Image.Image]:
    """A wide picture's left half, right half and whole; for other pictures the whole."""
    width, height = image.size
    if width <= height:
        return [image]
    return [image.crop((0, 0, width // 2, height)), image.crop((width // 2, 0, width, height)), image]


class LlamaTiles(BaseImageProcessor):
    """`pixel_values` (tiles, 3, side, side) and `aspect_ratios` (pictures, 2)."""

    def __call__(self, images: Any, **_: Any) -> BatchFeature:
        views = [halves(image) for image in flat(images)]
        ratios = [[1, 2] if len(one) > 1 else [1, 1] for one in views]
        tiles = torch.stack([tile(view) for one in views for view in one])
        return BatchFeature({"pixel_values": tiles, "aspect_ratios": torch.tensor(ratios)})


class CohereTiles(BaseImageProcessor):
    """`pixel_values` (tiles, 3, side, side) and `num_patches` (pictures,)."""

    patch_size = 2  # of a tile, in prompt positions

    def __call__(self, images: Any, **_: Any) -> BatchFeature:
        views = [halves(image) for image in flat(images)]
        tiles = torch.stack([tile(view) for one in views for view in one])
        return BatchFeature({"pixel_values": tiles, "num_patches": [len(one) for one in views]})
