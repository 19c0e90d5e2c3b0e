"""Videos in a prompt: where each of their frames begins. A face has to be found in one frame, not in a mean of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mllmeraser.models.families.base import VideoTokens
from mllmeraser.samples.errors import AttachError


def frame_starts(inputs: Mapping[str, Any], video: VideoTokens | None) -> Tensor | None:
    """Where frames begin in a forward pass; frames that a model merges in time count as one.

    Args:
        inputs: Its arguments.
        video: The model's placeholders, if it is known how to tell frames apart.

    Returns:
        (rows, length) bool, or None where no video is given.

    Raises:
        AttachError: A video is given and its frames cannot be told apart: an eraser that does not look must not answer.
    """
    if inputs.get("pixel_values_videos") is None:
        return None
    ids, grid = inputs.get("input_ids"), inputs.get("video_grid_thw")
    if video is None or ids is None or not isinstance(grid, Tensor):
        raise AttachError("this eraser cannot tell the frames of a video of this model apart: send frames as pictures")
    places = ids.eq(video.token)
    starts = _starts(grid.tolist(), video.merged)
    if int(places.sum()) != len(starts):
        raise AttachError(
            f"a video takes {int(places.sum())} positions of the prompt where its frames take {len(starts)}: send "
            "frames as pictures"
        )
    return torch.zeros_like(places).masked_scatter(places, torch.tensor(starts, device=places.device))


def _starts(grid: list[list[int]], merged: int) -> list[bool]:
    """For every position of all videos, in order: whether a frame begins there."""
    return [place == 0 for frames, high, wide in grid for _ in range(frames) for place in range(high * wide // merged)]
