"""Families that differ in names alone: one row each."""

from __future__ import annotations

from mllmeraser.models.families.base import Family
from mllmeraser.models.families.own_processor import OwnProcessor
from mllmeraser.models.families.patch_rows import PatchRows

_TILES = ("pixel_values", "image_sizes")
_MASKED = ("pixel_values", "pixel_attention_mask")
_TEXT_MODEL = ("model.text_model.layers",)

DECLARED: tuple[Family, ...] = (
    PatchRows("qwen2-vl", ("qwen2_vl",), "Qwen2VLForConditionalGeneration", "<|image_pad|>"),
    PatchRows("qwen2.5-vl", ("qwen2_5_vl",), "Qwen2_5_VLForConditionalGeneration", "<|image_pad|>"),
    PatchRows("qwen3-vl", ("qwen3_vl", "qwen3_vl_moe"), "Qwen3VLForConditionalGeneration", "<|image_pad|>"),
    PatchRows("qwen3.5", ("qwen3_5",), "Qwen3_5ForConditionalGeneration", "<|image_pad|>"),
    PatchRows("glm-4v", ("glm4v", "glm4v_moe", "glm46v"), "Glm4vForConditionalGeneration", "<|image|>"),
    OwnProcessor("llava-next", ("llava_next",), inputs=_TILES),
    OwnProcessor(
        "llava-onevision",
        ("llava_onevision",),
        inputs=(*_TILES, "batch_num_images"),
        still="LlavaOnevisionProcessor",
        several=False,  # several pictures have no tiles
    ),
    OwnProcessor("internvl", ("internvl",), still="InternVLProcessor"),
    OwnProcessor(
        "gemma3",
        ("gemma3",),
        placeholder="boi_token",
        feature="tokenizer.image_token",
        token_types="token_type_ids",
        one_view=True,
    ),
    OwnProcessor("idefics3", ("idefics3",), inputs=_MASKED, decoder_paths=_TEXT_MODEL),
    # Its own processor needs num2words and torchvision for videos; for pictures that of Idefics3 is equivalent.
    OwnProcessor("smolvlm", ("smolvlm",), inputs=_MASKED, still="Idefics3Processor", decoder_paths=_TEXT_MODEL),
    OwnProcessor("llama4", ("llama4",), feature="img_patch_token", decoder_paths=("language_model.model.layers",)),
    OwnProcessor("aya-vision", ("aya_vision",), feature="img_patch_token"),
    OwnProcessor("cohere2-vision", ("cohere2_vision",)),
    OwnProcessor("ovis2", ("ovis2",), feature="<IMG_ATOM>"),
    OwnProcessor("aria", ("aria",), inputs=("pixel_values", "pixel_mask")),
)
"""One row per family; see `OwnProcessor` and `PatchRows` for the columns."""
