"""The pixel space of a model's inputs: normalized pixels, and their valid range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature


@dataclass(frozen=True)
class PixelSpace:
    """Box of valid values of `pixel_values`, with the size of one grey level.

    A pixel `p` in 0..255 becomes `(p * rescale - mean) / std` per channel. All three tensors broadcast to
    `pixel_values`. An attack with bound `epsilon` (0..1 range) stays within `epsilon * 255 * scale` of the clean tensor
    and within `[lower, upper]`.

    Attributes:
        lower: Value of black, per channel.
        upper: Value of white, per channel.
        scale: Size of a step of 1/255.
        copies: How often the processor writes each pixel (Qwen2.5-VL repeats a still picture to fill its temporal
            patch). All copies from an image file are equal.
        channels: Colour channels, the outermost axis of a flattened row if `copies` exceeds 1.
    """

    lower: Tensor
    upper: Tensor
    scale: Tensor
    copies: int = 1
    channels: int = 3

    def to(self, like: Tensor) -> PixelSpace:
        """The same box on the device and in the dtype of `like`."""
        lower, upper, scale = (part.to(like) for part in (self.lower, self.upper, self.scale))
        return PixelSpace(lower, upper, scale, self.copies, self.channels)

    def project(self, values: Tensor, clean: Tensor, epsilon: float) -> Tensor:
        """`values` moved to the nearest point within `epsilon` (0..1 range) of `clean` and within the box."""
        radius = epsilon * 255.0 * self.scale
        return values.clamp(clean - radius, clean + radius).clamp(self.lower, self.upper)

    def tie(self, values: Tensor) -> Tensor:
        """`values` (gradients) with the mean over the copies of each pixel, so that the copies stay equal."""
        if self.copies == 1:
            return values
        rows = values.reshape(values.shape[0], self.channels, self.copies, -1)
        return rows.mean(dim=2, keepdim=True).expand_as(rows).reshape(values.shape)


def channel_bounds(image_processor: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Lower bound, upper bound and step of 1/255 per channel `(channels,)` of an image processor's output."""
    mean, std = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
    if getattr(image_processor, "do_normalize", True):
        mean, std = torch.tensor(image_processor.image_mean), torch.tensor(image_processor.image_std)
    rescale = float(image_processor.rescale_factor) if getattr(image_processor, "do_rescale", True) else 1.0
    return -mean / std, (255.0 * rescale - mean) / std, rescale / std


def channel_box(processor: Any, batch: BatchFeature) -> PixelSpace:
    """Bounds of shape `(1, 3, 1, 1)` for pixels `(pictures, channels, height, width)`."""
    lower, upper, scale = (part.view(1, -1, 1, 1) for part in channel_bounds(processor.image_processor))
    space = PixelSpace(lower, upper, scale, channels=scale.shape[1])
    return space.to(batch["pixel_values"]) if "pixel_values" in batch else space
