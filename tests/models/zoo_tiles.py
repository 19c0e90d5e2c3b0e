"""Rows of the zoo with tiles, or with more than placeholders in the prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from stand_ins import CohereTiles, LlamaTiles
from zoo_parts import SIGHTLESS, WIDTH, Ids, Kind, pil, square, tower

from mllmeraser.models.families.assembled import still_processor

IDEFICS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
CELLS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))


def _internvl(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": {**tower(), "image_size": (16, 16), "patch_size": (4, 4)},
        "text_config": {"model_type": "qwen2", **base},
        "image_token_id": ids("<IMG_CONTEXT>"),
        "image_seq_length": 4,
    }


def _internvl_processor(tokenizer: Any) -> Any:
    part = pil("got_ocr2", "GotOcr2", size=square(16), crop_to_patches=True, max_patches=3)
    return still_processor("InternVLProcessor")(
        part, tokenizer, None, image_seq_length=4, chat_template=tokenizer.chat_template
    )


def _idefics(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": tower(),
        "text_config": {"model_type": "llama", **base},
        "image_token_id": ids("<image>"),
        "scale_factor": 2,
    }


def _idefics2(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": tower(),
        "text_config": {"model_type": "mistral", **base},
        "perceiver_config": {
            "hidden_size": WIDTH,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
        },
        "image_token_id": ids("<image>"),
    }


def _idefics2_processor(tokenizer: Any) -> Any:
    part = pil("idefics2", "Idefics2", size={"shortest_edge": 8, "longest_edge": 16})
    return transformers.Idefics2Processor(part, tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template)


def _idefics3_processor(model: str, name: str) -> Callable[[Any], Any]:
    def processor(tokenizer: Any) -> Any:
        part = pil(model, name, size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
        return transformers.Idefics3Processor(part, tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template)

    return processor


def _llama4(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "text_config": {
            **base,
            "intermediate_size_mlp": 48,
            "head_dim": 16,
            "num_local_experts": 2,
            "interleave_moe_layer_step": 2,
            "no_rope_layer_interval": 3,
            "attention_chunk_size": 512,
        },
        "vision_config": {
            **tower(intermediate_size=64),
            "vision_output_dim": 16,
            "projector_input_dim": 16,
            "projector_output_dim": 16,
        },
        "boi_token_index": ids("<|image_start|>"),
        "eoi_token_index": ids("<|image_end|>"),
        "image_token_index": ids("<|patch|>"),
    }


def _llama4_processor(tokenizer: Any) -> Any:
    return transformers.Llama4Processor(
        LlamaTiles(), tokenizer, patch_size=4, pixel_shuffle_ratio=0.5, chat_template=tokenizer.chat_template
    )


def _aya(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": {"model_type": "siglip_vision_model", **tower()},
        "text_config": {"model_type": "cohere2", **base, "head_dim": 16, "sliding_window": 256},
        "image_token_index": ids("<|IMG_PATCH|>"),
        "downsample_factor": 2,
    }


def _aya_processor(tokenizer: Any) -> Any:
    part = pil("got_ocr2", "GotOcr2", size=square(16), crop_to_patches=True, max_patches=3)
    return transformers.AyaVisionProcessor(
        part, tokenizer, patch_size=4, img_size=16, downsample_factor=2, chat_template=tokenizer.chat_template
    )


def _cohere2(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": {"model_type": "siglip_vision_model", **tower()},
        "text_config": {"model_type": "cohere2", **base, "head_dim": 16, "sliding_window": 256},
        "image_token_id": ids("<|IMG_PATCH|>"),
        "downsample_factor": 2,
        "alignment_intermediate_size": 64,
    }


def _cohere2_processor(tokenizer: Any) -> Any:
    return transformers.Cohere2VisionProcessor(CohereTiles(), tokenizer, chat_template=tokenizer.chat_template)


def _ovis2(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": {**tower(), "vocab_size": 40, "hidden_stride": 2},
        "text_config": {"model_type": "qwen2", **base},
        "image_token_id": ids("<IMG_ATOM>"),
        "visual_indicator_token_ids": [ids(f"<IMG_{part}>") for part in ("START", "GRID", "COL", "ROW", "END")],
        "vocab_size": base["vocab_size"],
        "hidden_size": WIDTH,
    }


def _ovis2_processor(tokenizer: Any) -> Any:
    part = pil("ovis2", "Ovis2", size=square(16), crop_to_patches=True, max_patches=3)
    return transformers.Ovis2Processor(part, tokenizer, image_seq_length=4, chat_template=tokenizer.chat_template)


def _aria(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": {"model_type": "idefics3_vision", **tower(image_size=980, patch_size=140)},
        "text_config": {**base, "moe_num_experts": 2, "moe_topk": 1, "moe_num_shared_experts": 1},
        "projector_patch_to_query_dict": {49: 4},
        "image_token_index": ids("<image>"),
    }


def _aria_processor(tokenizer: Any) -> Any:
    part = pil("aria", "Aria")
    return transformers.AriaProcessor(part, tokenizer, chat_template=tokenizer.chat_template, size_conversion={980: 4})


TILES: dict[str, Kind] = {
    "internvl": Kind(
        "internvl",
        ("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
        _internvl,
        _internvl_processor,
        "<IMG_CONTEXT>",
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        processor_class="InternVLProcessor",
        settings={"image_seq_length": 4},
    ),
    "idefics2": Kind("idefics2", IDEFICS, _idefics2, _idefics2_processor, "<image>"),
    "idefics3": Kind("idefics3", (*IDEFICS, *CELLS), _idefics, _idefics3_processor("idefics3", "Idefics3"), "<image>"),
    "smolvlm": Kind(
        "smolvlm",
        (*IDEFICS, *CELLS),
        _idefics,
        _idefics3_processor("smolvlm", "SmolVLM"),
        "<image>",
        processor_class="SmolVLMProcessor",
        settings={"image_seq_len": 4},
    ),
    "llama4": Kind(
        "llama4",
        (
            "<|image|>",
            "<|image_start|>",
            "<|image_end|>",
            "<|patch|>",
            "<|tile_x_separator|>",
            "<|tile_y_separator|>",
        ),
        _llama4,
        _llama4_processor,
        "<|image|>",
        stands_in=SIGHTLESS,
    ),
    "aya-vision": Kind(
        "aya_vision",
        ("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "TILE", "TILE_GLOBAL", "TILE_1", "TILE_2"),
        _aya,
        _aya_processor,
        "<image>",
    ),
    "cohere2-vision": Kind(
        "cohere2_vision",
        ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"),
        _cohere2,
        _cohere2_processor,
        "<|IMG_PATCH|>",
        named={
            "boi_token": "<|START_OF_IMG|>",
            "eoi_token": "<|END_OF_IMG|>",
            "image_token": "<|IMG_PATCH|>",
            "img_line_break_token": "<|IMG_LINE_BREAK|>",
        },
        stands_in=SIGHTLESS,
    ),
    "ovis2": Kind(
        "ovis2",
        ("<image>", "<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"),
        _ovis2,
        _ovis2_processor,
        "<image>",
    ),
    "aria": Kind("aria", ("<image>",), _aria, _aria_processor, "<image>", named={"image_token": "<image>"}),
}
