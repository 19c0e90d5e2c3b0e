"""Qwen2.5-VL, the family of one of the shipped models."""

from __future__ import annotations

from mllmeraser.models.families.patch_rows import PatchRows


class Qwen25VL(PatchRows):
    """`Qwen2_5_VLForConditionalGeneration`."""

    def __init__(self) -> None:
        """Describe it."""
        super().__init__("qwen2.5-vl", ("qwen2_5_vl",), "Qwen2_5_VLForConditionalGeneration", "<|image_pad|>")
