"""Rows of the zoo with grids of patches: Qwen-VL, GLM-V, Pixtral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo_parts import DEPTH, WIDTH, Config, Ids, Kind, pil, square, tower

from mllmeraser.models.families.assembled import AssembledProcessor

MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
GRID = {"shortest_edge": 8 * 8, "longest_edge": 8 * 8 * 12}
QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_SHOWS = "<|vision_start|><|image_pad|><|vision_end|>"
GLM = ("<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|video|>")
QWEN3_TOWER = {
    "depth": DEPTH,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": WIDTH,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
GLM_SHOWS = "<|begin_of_image|><|image|><|end_of_image|>"
ROWS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")


def _qwen(vision: dict[str, Any], **text: Any) -> Config:
    def config(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
        return {
            "text_config": {**base, "rope_parameters": MROPE, **text},
            "vision_config": {"patch_size": 4, "temporal_patch_size": 2, "spatial_merge_size": 2, **vision},
            "image_token_id": ids("<|image_pad|>"),
            "video_token_id": ids("<|video_pad|>"),
            "vision_start_token_id": ids("<|vision_start|>"),
            "vision_end_token_id": ids("<|vision_end|>"),
        }

    return config


def _qwen_processor(tokenizer: Any) -> AssembledProcessor:
    return AssembledProcessor(pil("qwen2_vl", "Qwen2VL", size=GRID, patch_size=4), tokenizer)


def _glm(vision_type: str, text_type: str, **text: Any) -> Config:
    vision = {"depth": DEPTH, "hidden_size": 16, "num_heads": 2, "out_hidden_size": WIDTH, "intermediate_size": 24}

    def config(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
        return {
            "text_config": {
                "model_type": text_type,
                **base,
                "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0},
                **text,
            },
            "vision_config": {
                "model_type": vision_type,
                **vision,
                "image_size": 32,
                "patch_size": 4,
                "temporal_patch_size": 2,
            },
            "image_token_id": ids("<|image|>"),
            "video_token_id": ids("<|video|>"),
            "image_start_token_id": ids("<|begin_of_image|>"),
            "image_end_token_id": ids("<|end_of_image|>"),
            "video_start_token_id": ids("<|begin_of_video|>"),
            "video_end_token_id": ids("<|end_of_video|>"),
        }

    return config


def _glm_processor(tokenizer: Any) -> AssembledProcessor:
    return AssembledProcessor(pil("glm4v", "Glm4v", size=GRID, patch_size=4), tokenizer, image_token="<|image|>")


def _pixtral(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_config": {"model_type": "pixtral", **tower(image_size=32, head_dim=8)},
        "text_config": {"model_type": "mistral", **base, "head_dim": 16},
        "image_token_index": ids("[IMG]"),
        "spatial_merge_size": 2,
    }


def _pixtral_llava(ids: Ids, base: dict[str, Any]) -> dict[str, Any]:
    alike = {key: value for key, value in _pixtral(ids, base).items() if key != "spatial_merge_size"}
    return {**alike, "vision_feature_layer": -1, "vision_feature_select_strategy": "full"}


def _pixtral_processor(merge: int) -> Callable[[Any], AssembledProcessor]:
    def processor(tokenizer: Any) -> AssembledProcessor:
        part = pil("pixtral", "Pixtral", size={"longest_edge": 32}, patch_size=square(4))
        return AssembledProcessor(part, tokenizer, image_token="[IMG]", patch_size=4, spatial_merge_size=merge)

    return processor


GRIDS: dict[str, Kind] = {
    "qwen2-vl": Kind(
        "qwen2_vl",
        QWEN,
        _qwen({"depth": DEPTH, "embed_dim": 16, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}),
        _qwen_processor,
        QWEN_SHOWS,
    ),
    "qwen2.5-vl": Kind(
        "qwen2_5_vl",
        QWEN,
        _qwen(
            {
                "depth": DEPTH,
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_heads": 2,
                "out_hidden_size": WIDTH,
                "window_size": 16,
                "fullatt_block_indexes": [1],
            }
        ),
        _qwen_processor,
        QWEN_SHOWS,
    ),
    "qwen3-vl": Kind(
        "qwen3_vl",
        QWEN,
        _qwen(
            QWEN3_TOWER,
            head_dim=16,
        ),
        _qwen_processor,
        QWEN_SHOWS,
    ),
    "qwen3-vl (MoE)": Kind(
        "qwen3_vl_moe",
        QWEN,
        _qwen(QWEN3_TOWER, head_dim=16, moe_intermediate_size=16, num_experts=2, num_experts_per_tok=1),
        _qwen_processor,
        QWEN_SHOWS,
    ),
    "qwen3.5": Kind(
        "qwen3_5",
        QWEN,
        _qwen(
            {key: value for key, value in QWEN3_TOWER.items() if key != "deepstack_visual_indexes"},
            head_dim=16,
            layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"],
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
        ),
        _qwen_processor,
        QWEN_SHOWS,
    ),
    "glm-4v": Kind("glm4v", GLM, _glm("glm4v_vision", "glm4v_text"), _glm_processor, GLM_SHOWS),
    "glm-4v (MoE)": Kind(
        "glm4v_moe",
        GLM,
        _glm(
            "glm4v_moe_vision",
            "glm4v_moe_text",
            moe_intermediate_size=16,
            n_routed_experts=2,
            num_experts_per_tok=1,
            n_shared_experts=1,
            head_dim=16,
        ),
        _glm_processor,
        GLM_SHOWS,
    ),
    "glm-4.6v": Kind("glm46v", GLM, _glm("glm4v_vision", "glm4v_text"), _glm_processor, GLM_SHOWS),
    "pixtral": Kind(
        "mistral3",
        ROWS,
        _pixtral,
        _pixtral_processor(2),
        "[IMG]",
        processor_class="PixtralProcessor",
        settings={"patch_size": 4, "spatial_merge_size": 2},
    ),
    "pixtral (LLaVA)": Kind(
        "llava",
        ROWS,
        _pixtral_llava,
        _pixtral_processor(1),
        "[IMG]",
        processor_class="PixtralProcessor",
        settings={"patch_size": 4},
    ),
}
