"""Pictures, videos and sound in a forward pass.

Each picture and each frame of a video is read by itself. If that is impossible, the pass is refused: an eraser that
could not look must not answer. `generate` reads pictures before its first pass and passes on their features alone, so
the number of pictures comes from its arguments (`GenerateSession.arguments`).
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

ADVICE = "send frames as pictures"
SOUND = ("audio", "input_features", "speech", "waveform")
"""First letters of arguments that hold sound."""
OUTSIDE_PROMPT = ("pixel_values", "cross_attention_states")
"""Arguments that hold a picture without positions in the prompt."""
TEXT_ALONE = frozenset(
    {
        "input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "cache_position", "labels",
        "logits_to_keep", "num_logits_to_keep", "token_type_ids", "mm_token_type_ids", "rope_deltas", "return_dict",
        "output_attentions", "output_hidden_states",
    }
)  # fmt: skip
"""Arguments of forward without pictures. Any other might hold some, so pictures are looked for."""


@dataclass(frozen=True)
class MediaInputs:
    """What a prompt pass shows beside text.

    Attributes:
        pictures: Number of pictures and frames, where it is known. At least as many must be found in the prompt.
        every_row: Whether each row must hold one.
        frames: (rows, length) bool, first positions of video frames; None without a video.
    """

    pictures: int | None = None
    every_row: bool = False
    frames: Tensor | None = None
    video: int | None = None

    def images(self, ids: Tensor, token: int | None) -> Tensor:
        """(rows, length) bool: placeholders of pictures (`token`) and of frames."""
        places = torch.zeros_like(ids, dtype=torch.bool) if token is None else ids.eq(token)
        return places if self.video is None else places | ids.eq(self.video)

    def missing(self, present: Tensor) -> Tensor:
        """() bool: whether fewer pictures were found, in (rows, runs) bool, than the pass holds."""
        lost = torch.zeros((), dtype=torch.bool, device=present.device)
        if self.pictures is not None:
            lost = present.sum() < self.pictures
        return lost | ~present.any(1).all() if self.every_row else lost


def media_inputs(
    inputs: Mapping[str, Any], span: Span, call: Mapping[str, Any], hf: Any, family: Family
) -> MediaInputs:
    """The media of a prompt pass with the arguments `inputs`, within a `call` of `generate` (empty outside of one)."""
    sound = [name for name, value in inputs.items() if value is not None and name.startswith(SOUND)]
    if sound:
        raise AttachError(f"{sound[0]} holds sound, which erasers cannot read: send text and pictures alone")
    pictures = _pictures(inputs, span, call, family)
    if inputs.get("pixel_values_videos") is None and not _features(inputs, "video"):
        shown = any(inputs.get(name) is not None for name in OUTSIDE_PROMPT) or _features(inputs, "image")
        return MediaInputs(pictures, every_row=not family.in_prompt and shown)
    tokens, ids = family.video_tokens(hf), inputs.get("input_ids")
    grid = _grid(inputs, span, call)
    if tokens is None or ids is None or grid is None:
        raise AttachError(f"this eraser cannot tell the frames of a video of this model apart: {ADVICE}")
    frames = frame_starts(ids.eq(tokens.token), grid, tokens.merged)
    return MediaInputs((pictures or 0) + sum(count for count, _, _ in grid), frames=frames, video=tokens.token)


def frame_starts(places: Tensor, grid: list[list[int]], merged: int) -> Tensor:
    """(rows, length) bool: first positions of frames. Frames that a model merges in time count as one.

    Args:
        places: (rows, length) bool, positions of all videos.
        grid: (frames, height, width) of each video, in patches.
        merged: Patches that share one position.
    """
    starts = [at == 0 for frames, high, wide in grid for _ in range(frames) for at in range(high * wide // merged)]
    taken = int(places.sum())
    if taken != len(starts):
        raise AttachError(
            f"a video takes {taken} positions of the prompt where its frames take {len(starts)}: {ADVICE}"
        )
    return torch.zeros_like(places).masked_scatter(places, torch.tensor(starts, device=places.device))


def _pictures(inputs: Mapping[str, Any], span: Span, call: Mapping[str, Any], family: Family) -> int | None:
    if family.counted_by is None:
        return None
    for source, repeats in ((inputs, 1), (call, span.repeats)):
        if isinstance(own := source.get(family.counted_by), Tensor):
            return own.shape[0] * repeats
    if _features(inputs, "image"):
        raise AttachError("features of pictures without the pictures cannot be read: give the pictures")
    return None


def _features(inputs: Mapping[str, Any], kind: str) -> bool:
    """Whether pictures or videos come as features."""
    made = inputs.get("mm_encoder_outputs")
    return isinstance(made, Mapping) and made.get(kind) is not None


def _grid(inputs: Mapping[str, Any], span: Span, call: Mapping[str, Any]) -> list[list[int]] | None:
    """(frames, height, width) of every video; None if unknown, or unknown for which row."""
    own, of_call = inputs.get("video_grid_thw"), call.get("video_grid_thw")
    if isinstance(own, Tensor):
        return own.tolist()
    if isinstance(of_call, Tensor) and (span.repeats == 1 or span.rows == span.repeats):
        return of_call.tolist() * span.repeats
    return None


def may_hold_pictures(inputs: Mapping[str, Any]) -> bool:
    """Whether a pass may hold pictures: whether it has an argument that text alone does not need."""
    return any(name not in TEXT_ALONE and _has_content(value) for name, value in inputs.items())


def _has_content(value: Any) -> bool:
    """Whether an argument holds anything; `generate` passes on an empty mapping of features for text alone."""
    return any(map(_has_content, value.values())) if isinstance(value, Mapping) else value is not None
