"""Tiny checkpoints with quantized decoder blocks; tensors and config have the layout of the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, LlavaForConditionalGeneration

GROUP = 32
"""Neighbouring inputs that share a scale, in the formats of 4 bit."""
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
REST = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
"""Modules without quantization."""
Packed = tuple[dict[str, Tensor], Tensor]
"""The tensors that replace a weight, by their last name, and that weight."""


def _int32(codes: Tensor) -> Tensor:
    """(..., 8) codes of 4 bit as (...) int32, the first one lowest."""
    value = (codes.long() << (torch.arange(8) * 4)).sum(-1)
    return torch.where(value >= 2**31, value - 2**32, value).to(torch.int32)


def _in_columns(codes: Tensor, order: tuple[int, ...] = tuple(range(8))) -> Tensor:
    return _int32(codes.reshape(codes.shape[0], -1, 8)[..., list(order)])


def _in_rows(codes: Tensor) -> Tensor:
    return _int32(codes.reshape(-1, 8, codes.shape[1]).transpose(1, 2))


def _four_bit(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes (in, out), zero points and scales (groups, out), and the weight of these codes."""
    groups = weight.t().reshape(-1, GROUP, weight.shape[0])
    low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(1, 15)
    codes = (groups / scales[:, None] + zeros[:, None]).round().clamp(0, 15)
    meant = ((codes - zeros[:, None]) * scales[:, None]).reshape(-1, weight.shape[0]).t().contiguous()
    return codes.reshape(-1, weight.shape[0]), zeros, scales, meant


def gptq(weight: Tensor) -> Packed:
    codes, zeros, scales, meant = _four_bit(weight)
    groups = (torch.arange(weight.shape[1]) // GROUP).to(torch.int32)
    packed = {"qweight": _in_rows(codes), "qzeros": _in_columns(zeros - 1), "scales": scales.half(), "g_idx": groups}
    return packed, meant


def awq(weight: Tensor) -> Packed:
    codes, zeros, scales, meant = _four_bit(weight)
    packed = {"qweight": _in_columns(codes, AWQ_ORDER), "qzeros": _in_columns(zeros, AWQ_ORDER)}
    return {**packed, "scales": scales.half()}, meant


def int8_rows(weight: Tensor) -> Packed:
    scale = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scale).round()
    return {"weight": codes.to(torch.int8), "weight_scale": scale}, codes * scale


def fp8_blocks(weight: Tensor) -> Packed:
    scale = weight.abs().amax() / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale_inv": scale.reshape(1, 1)}, codes.float() * scale


FORMATS: dict[str, tuple[Callable[[Tensor], Packed], dict[str, Any]]] = {
    "gptq": (gptq, {"bits": 4, "group_size": GROUP, "desc_act": False, "sym": False, "checkpoint_format": "gptq"}),
    "awq": (
        awq,
        {"bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm", "modules_to_not_convert": REST},
    ),
    "compressed-tensors": (
        int8_rows,
        {
            "format": "int-quantized",
            "quantization_status": "compressed",
            "ignore": ["lm_head", "re:.*vision_tower.*", "re:.*multi_modal_projector.*"],
            "config_groups": {
                "group_0": {
                    "format": "int-quantized",
                    "targets": ["Linear"],
                    "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
                }
            },
        },
    ),
    "fp8": (
        fp8_blocks,
        {"activation_scheme": "dynamic", "weight_block_size": [128, 128], "modules_to_not_convert": REST},
    ),
}


def configure(folder: Path, method: str, settings: dict[str, Any]) -> None:
    """Write the quantization into the configuration of a checkpoint."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "quantization_config": {"quant_method": method, **settings}}))


def build_packed(full: Path, method: str, folder: Path) -> tuple[Path, Path]:
    """Write the checkpoint `full` with quantized decoder blocks, and an equivalent one of plain weights."""
    packed, plain = Path(shutil.copytree(full, folder / method)), Path(shutil.copytree(full, folder / f"as-{method}"))
    pack, settings = FORMATS[method]
    inside: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in load_file(full / "model.safetensors").items():
        if "language_model" in name and name.endswith("_proj.weight"):
            parts, meant[name] = pack(tensor)
            stem = name.removesuffix("weight")
            inside.update({stem + last: part.contiguous() for last, part in parts.items()})
        else:
            inside[name] = meant[name] = tensor
    save_file(inside, packed / "model.safetensors", metadata={"format": "pt"})
    save_file(meant, plain / "model.safetensors", metadata={"format": "pt"})
    configure(packed, method, settings)
    return packed, plain


def change_one_block(folder: Path, copy: Path) -> Path:
    """Another checkpoint of the same format, with other packed numbers in its last block."""
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    last = max(name for name in tensors if "language_model" in name and ".layers." in name and "down_proj" in name)
    name = next(n for n in (last.rpartition(".")[0] + end for end in (".qweight", ".weight")) if n in tensors)
    raw = tensors[name].view(torch.uint8)
    tensors[name] = raw.flip(0).contiguous().view(tensors[name].dtype)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def even_widths(folder: Path) -> Path:
    """Build the tiny LLaVA in a folder with widths of 64 and 128 only, which all formats can hold."""
    config = AutoConfig.from_pretrained(folder)
    config.vision_config.hidden_size, config.vision_config.intermediate_size = 64, 128
    config.text_config.intermediate_size = 128
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder
