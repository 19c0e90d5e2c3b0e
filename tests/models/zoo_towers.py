"""Rows of the zoo for the LLaVA family, Gemma 3, PaliGemma and Mllama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from zoo_parts import DEPTH, WIDTH, Config, Ids, Kind, pil, square, tower

from mllmeraser.models.families.assembled import still_processor

CLIP = {"size": {"shortest_edge": 16}, "crop_size": square(16)}
PINPOINTS = [[16, 32], [32, 16], [32, 32]]
NEXT = {"image_grid_pinpoints": PINPOINTS, "vision_feature_layer": -2}


def _over(vision_type: str, text_type: str, vision: Mapping[str, Any] | None = None, **more: Any) -> Config:
    """A tower under a decoder, with the id of `<image>`."""

    def config(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
        return {
            "vision_config": {"model_type": vision_type, **tower(**(vision or {}))},
            "text_config": {"model_type": text_type, **base},
            "image_token_index": ids("<image>"),
            **more,
        }

    return config


def _llava_processor(tokenizer: Any) -> Any:
    return transformers.LlavaProcessor(
        image_processor=pil("clip", "CLIP", **CLIP),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def _llava_next_processor(tokenizer: Any) -> Any:
    return transformers.LlavaNextProcessor(
        pil("llava_next", "LlavaNext", **CLIP, image_grid_pinpoints=PINPOINTS),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def _onevision_processor(tokenizer: Any) -> Any:
    return still_processor("LlavaOnevisionProcessor")(
        pil("llava_onevision", "LlavaOnevision", size=square(16), image_grid_pinpoints=[[16, 16], *PINPOINTS]),
        tokenizer,
        None,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


def _gemma3(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "text_config": {**base, "head_dim": 16, "sliding_window": 256},
        "vision_config": tower(),
        "mm_tokens_per_image": 4,
        "boi_token_index": ids("<start_of_image>"),
        "eoi_token_index": ids("<end_of_image>"),
        "image_token_index": ids("<image_soft_token>"),
    }


def _gemma3_processor(tokenizer: Any) -> Any:
    part = pil("gemma3", "Gemma3", size=square(16))
    return transformers.Gemma3Processor(part, tokenizer, tokenizer.chat_template, image_seq_length=4)


def _paligemma(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "text_config": {"model_type": "gemma", **base, "head_dim": 16},
        "vision_config": {"model_type": "siglip_vision_model", **tower(), "projection_dim": WIDTH},
        "image_token_index": ids("<image>"),
        "projection_dim": WIDTH,
        "hidden_size": WIDTH,
        "vocab_size": base["vocab_size"],
    }


def _paligemma_processor(tokenizer: Any) -> Any:
    part = pil("siglip", "Siglip", size=square(16))
    part.image_seq_length = 16
    return transformers.PaliGemmaProcessor(part, tokenizer)


def _mllama(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "text_config": {**base, "num_hidden_layers": DEPTH + 1, "cross_attention_layers": [1]},
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": DEPTH,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 32,
            "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
        },
        "image_token_index": ids("<|image|>"),
    }


def _mllama_processor(tokenizer: Any) -> Any:
    part = pil("mllama", "Mllama", size=square(16), max_image_tiles=4)
    return transformers.MllamaProcessor(part, tokenizer, chat_template=tokenizer.chat_template)


TOWERS: dict[str, Kind] = {
    "llava": Kind("llava", ("<image>",), _over("clip_vision_model", "llama"), _llava_processor, "<image>"),
    "vipllava": Kind(
        "vipllava",
        ("<image>",),
        _over("clip_vision_model", "llama", vision_feature_layers=[-1, -2], vision_feature_layer=[-1, -2]),
        _llava_processor,
        "<image>",
    ),
    "llava-next": Kind(
        "llava_next",
        ("<image>",),
        _over("clip_vision_model", "mistral", **NEXT),
        _llava_next_processor,
        "<image>",
    ),
    "llava-onevision": Kind(
        "llava_onevision",
        ("<image>", "<video>"),
        _over("siglip_vision_model", "qwen2", image_grid_pinpoints=[[16, 16], *PINPOINTS], vision_feature_layer=-1),
        _onevision_processor,
        "<image>",
        processor_class="LlavaOnevisionProcessor",
        settings={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    ),
    "gemma3": Kind(
        "gemma3",
        ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        _gemma3,
        _gemma3_processor,
        "<start_of_image>",
        named={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    ),
    "paligemma": Kind(
        "paligemma", ("<image>",), _paligemma, _paligemma_processor, "<image>", named={"image_token": "<image>"}
    ),
    "mllama": Kind("mllama", ("<|image|>", "<|python_tag|>"), _mllama, _mllama_processor, "<|image|>", opening="<bos>"),
}
