"""What a forward pass shows beside its text. Pictures and frames of videos are looked at one by one; where that cannot
be done the pass is refused: an eraser that did not look must not answer.

`generate` reads pictures before its first pass and hands on their features alone. What it was given tells then how many
there are (`GenerateSession.given`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.steering.prompt_tracker import Span
from mllmeraser.models.families.base import Family
from mllmeraser.samples.errors import AttachError

APART = "send frames as pictures"
HEARD = ("audio", "input_features", "speech", "waveform")
"""Beginnings of arguments that bring sound."""
BEHIND = ("pixel_values", "cross_attention_states")
"""Arguments that show a picture although it has no positions in the prompt."""


@dataclass(frozen=True)
class MediaInputs:
    """What stands in a prompt pass for something to be looked at.

    Attributes:
        pictures: How many pictures and frames there are, where that can be told; no fewer must be found in the prompt.
        every_row: Whether each row has to hold one.
        frames: (rows, length) bool, where frames of videos begin; None without a video.
        video: Token that stands for them.
    """

    pictures: int | None = None
    every_row: bool = False
    frames: Tensor | None = None
    video: int | None = None

    def images(self, ids: Tensor, token: int | None) -> Tensor:
        """(rows, length) bool: placeholders of pictures (`token`) and of frames."""
        found = torch.zeros_like(ids, dtype=torch.bool) if token is None else ids.eq(token)
        return found if self.video is None else found | ids.eq(self.video)

    def missing(self, there: Tensor) -> Tensor:
        """() bool: whether less was found than is shown, in (rows, runs) bool."""
        lost = torch.zeros((), dtype=torch.bool, device=there.device)
        if self.pictures is not None:
            lost = there.sum() < self.pictures
        return lost | ~there.any(1).all() if self.every_row else lost


def media_inputs(
    inputs: Mapping[str, Any], span: Span, given: Mapping[str, Any], hf: Any, family: Family
) -> MediaInputs:
    """What a prompt pass shows.

    Args:
        inputs: Arguments of the top model's forward.
        span: Columns it carries.
        given: Arguments of the call of `generate` that it belongs to; empty outside of one.
        hf: The top model.
        family: Its adapter.

    Raises:
        AttachError: It shows or plays something that cannot be looked at.
    """
    heard = [name for name, value in inputs.items() if value is not None and name.startswith(HEARD)]
    if heard:
        raise AttachError(f"{heard[0]} brings sound, and this eraser cannot hear: send text and pictures alone")
    pictures = _pictures(inputs, span, given, family)
    if not _has_video(inputs):
        return MediaInputs(pictures, every_row=not family.in_prompt and _has_picture(inputs))
    tokens, ids = family.video_tokens(hf), inputs.get("input_ids")
    grid = _grid(inputs, span, given)
    if tokens is None or ids is None or grid is None:
        raise AttachError(f"this eraser cannot tell the frames of a video of this model apart: {APART}")
    frames = frame_starts(ids.eq(tokens.token), grid, tokens.merged)
    return MediaInputs((pictures or 0) + sum(count for count, _, _ in grid), frames=frames, video=tokens.token)


def frame_starts(places: Tensor, grid: list[list[int]], merged: int) -> Tensor:
    """(rows, length) bool: where frames begin; those that a model merges in time count as one.

    Args:
        places: (rows, length) bool, the positions of all videos.
        grid: (frames, height, width) of each video, in patches.
        merged: Patches that share one position.

    Raises:
        AttachError: The positions are not as many as the frames take.
    """
    starts = [at == 0 for frames, high, wide in grid for _ in range(frames) for at in range(high * wide // merged)]
    found = int(places.sum())
    if found != len(starts):
        raise AttachError(f"a video takes {found} positions of the prompt where its frames take {len(starts)}: {APART}")
    return torch.zeros_like(places).masked_scatter(places, torch.tensor(starts, device=places.device))


def _pictures(inputs: Mapping[str, Any], span: Span, given: Mapping[str, Any], family: Family) -> int | None:
    if family.counted_by is None:
        return None
    own, of_call = inputs.get(family.counted_by), given.get(family.counted_by)
    if isinstance(own, Tensor):
        return own.shape[0]
    if isinstance(of_call, Tensor):
        return of_call.shape[0] * span.repeats
    if _features(inputs, "image"):
        raise AttachError("features without the pictures that they are of cannot be looked at: give the pictures")
    return None


def _features(inputs: Mapping[str, Any], kind: str) -> bool:
    """Whether pictures or videos come as features that were made before."""
    made = inputs.get("mm_encoder_outputs")
    return isinstance(made, Mapping) and made.get(kind) is not None


def _has_video(inputs: Mapping[str, Any]) -> bool:
    return inputs.get("pixel_values_videos") is not None or _features(inputs, "video")


def _has_picture(inputs: Mapping[str, Any]) -> bool:
    return any(inputs.get(name) is not None for name in BEHIND) or _features(inputs, "image")


def _grid(inputs: Mapping[str, Any], span: Span, given: Mapping[str, Any]) -> list[list[int]] | None:
    """(frames, height, width) of every video; None where that is not told, or not for which row."""
    own, of_call = inputs.get("video_grid_thw"), given.get("video_grid_thw")
    if isinstance(own, Tensor):
        return own.tolist()
    if isinstance(of_call, Tensor) and (span.repeats == 1 or span.rows == span.repeats):
        return of_call.tolist() * span.repeats
    return None
