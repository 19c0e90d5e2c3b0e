"""Random models of the published sizes, prompts for them, and a random eraser in the shape of a preset."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from mllmeraser.erasure.gates import Gate, LinearGate, SubjectGate
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models.families import family_for
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel

HEAD = 128
"""Width of an attention head of both language models."""
NAMES = ("llava-1.5-7b", "qwen2.5-vl-7b")
SHIPPED = dict(zip(NAMES, ("embedded:llava", "embedded:qwen2.5-vl"), strict=True))
QWEN_SIDE = 672
"""Pixels along a side of a picture for Qwen2.5-VL. They give 576 positions, as many as LLaVA-1.5 has."""
TEXT_TOKENS = 64
"""Text tokens of a prompt, without those of its picture."""
SUBJECTS, COHORT = 6, 160
"""People to forget, and retained people in the cohort: the numbers of a `default` eraser for six people."""


def config_of(name: str, layers: int | None = None, width: int | None = None) -> LlavaConfig | Qwen2_5_VLConfig:
    """Configuration of a published model. Fewer layers (of both towers) or a smaller width are for a dry run."""
    return (_llava if name == NAMES[0] else _qwen)(layers, width)


def _text(width: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": vocabulary,
            "num_attention_heads": heads, "num_key_value_heads": groups, "bos_token_id": None, "eos_token_id": None,
            "pad_token_id": 0}  # fmt: skip


def _llava(layers: int | None, width: int | None) -> LlavaConfig:
    """LLaVA-1.5-7B: Vicuna of 32 layers and width 4096 after CLIP ViT-L/14 at 336 pixels (576 positions)."""
    wide, deep = width or 4096, layers or 32
    heads = max(wide // HEAD, 1)
    text = _text(wide, wide * 43 // 16, deep, heads, heads, 32064)
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
              "image_size": 336, "patch_size": 14, "projection_dim": 768}  # fmt: skip
    if width is not None:
        vision |= {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "image_size": 56}
    if layers is not None:
        vision["num_hidden_layers"] = layers
    return LlavaConfig(
        text_config={"model_type": "llama", **text, "rms_norm_eps": 1e-5},
        vision_config={"model_type": "clip_vision_model", **vision},
        image_token_id=32000,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def _qwen(layers: int | None, width: int | None) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-7B: 28 layers of width 3584, four key-value heads, after a tower of 32 blocks of width 1280."""
    wide, deep = width or 3584, layers or 28
    heads = max(wide // HEAD, 1)
    text = _text(wide, wide * 37 // 7, deep, heads, 4 if heads % 4 == 0 else 1, 152064)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": _sections(wide // heads)}
    depth = layers or 32
    full = [n for n in (7, 15, 23, 31) if n < depth] or [depth - 1]
    vision = {"depth": depth, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
              "window_size": 112, "fullatt_block_indexes": full, "out_hidden_size": wide}  # fmt: skip
    if width is not None:
        vision |= {"hidden_size": 64, "intermediate_size": 96, "num_heads": 2}
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=151655, video_token_id=151656,
        vision_start_token_id=151652, vision_end_token_id=151653,
    )  # fmt: skip


def _sections(head: int) -> list[int]:
    """The three-axis rotary sections, 16 : 24 : 24 of half a head."""
    first = head // 8
    rest = (head // 2 - first) // 2
    return [head // 2 - 2 * rest, rest, rest]


def random_model(config: LlavaConfig | Qwen2_5_VLConfig, device: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """Make a model with random weights on the device."""
    torch.manual_seed(seed)
    kind = LlavaForConditionalGeneration if isinstance(config, LlavaConfig) else Qwen2_5_VLForConditionalGeneration
    with torch.device(device):
        model = kind._from_config(config, dtype=dtype)
    return model.to(device).eval().requires_grad_(False)


def behind_a_processor(
    name: str, layers: int | None, width: int | None, device: str, dtype: torch.dtype, seed: int
) -> MultimodalModel:
    """A random model with a processor: tokenizer and chat format of the shipped model, pictures of its own size.

    Its vocabulary keeps the published size, although few rows of it are used.
    """
    config, processor = config_of(name, layers, width), load_model(SHIPPED[name], device="cpu").processor
    pictures, number = processor.image_processor, processor.tokenizer.convert_tokens_to_ids
    if name == NAMES[0]:
        side = config.vision_config.image_size
        config.image_token_id = number("<image>")
        processor.patch_size = config.vision_config.patch_size
        pictures.size, pictures.crop_size = {"shortest_edge": side}, {"height": side, "width": side}
    else:
        config.image_token_id, config.video_token_id = number("<|image_pad|>"), number("<|video_pad|>")
        config.vision_start_token_id, config.vision_end_token_id = number("<|vision_start|>"), number("<|vision_end|>")
        pixels = (QWEN_SIDE if width is None else 112) ** 2
        pictures.patch_size = config.vision_config.patch_size
        pictures.size = {"shortest_edge": pixels, "longest_edge": pixels}
    return MultimodalModel(f"{name}, random", random_model(config, device, dtype, seed), processor)


def random_prompts(model: PreTrainedModel, rows: int, seed: int) -> dict[str, Tensor]:
    """Inputs of a batch of prompts: a picture of the model's size and `TEXT_TOKENS` random tokens each."""
    generator, config = torch.Generator().manual_seed(seed), model.config
    token = family_for(config, model).image_token_id(model)
    if config.model_type == "llava":
        side = config.vision_config.image_size
        positions = (side // config.vision_config.patch_size) ** 2
        inputs = {"pixel_values": torch.randn(rows, 3, side, side, generator=generator)}
    else:
        grid = 8 if config.vision_config.hidden_size < 256 else QWEN_SIDE // 14  # patches along a side
        positions = grid * grid // 4
        inputs = {
            "pixel_values": torch.randn(rows * grid * grid, 3 * 2 * 14 * 14, generator=generator),
            "image_grid_thw": torch.tensor([[1, grid, grid]] * rows),
        }
    text = torch.randint(10, 20_000, (rows, TEXT_TOKENS), generator=generator)
    ids = torch.cat([text[:, :8], torch.full((rows, positions), token), text[:, 8:]], 1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.model_type != "llava":
        inputs["mm_token_type_ids"] = (ids == token).int()
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    return {name: value.to(model.device) for name, value in inputs.items()}


def random_eraser(model: PreTrainedModel, preset: str, seed: int) -> SteeringPlan:
    """An eraser with the layers, gates and policy of a preset, which fires on every prompt.

    Its directions have unit length, so that nothing overflows.
    """
    settings, text = FitSettings.preset(preset), model.config.get_text_config()
    reads, shifts = settings.layers(text.num_hidden_layers)
    generator, width = torch.Generator().manual_seed(seed), text.hidden_size

    def unit(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    def gate(number: int) -> Gate:
        if settings.gate.kind != "subject" or number == 1:  # the topic, in the middle, is linear
            return LinearGate({"weight": unit(SUBJECTS if settings.gate.per_subject else 1, width)})
        rank = min(settings.gate.rank or width, width)
        return SubjectGate({"weight": unit(SUBJECTS, rank), "centre": unit(width), "projection": unit(width, rank),
                            "background_cohort": unit(COHORT, rank)}, settings.gate)  # fmt: skip

    gates = {layer: gate(number) for number, layer in enumerate(reads)}
    token = family_for(model.config, model).image_token_id(model)
    directions = {layer: unit(width) for layer in shifts[0]}
    return SteeringPlan(preset, reads, shifts[0], directions, gates, settings.policy, 1.0, -1e3, token)
