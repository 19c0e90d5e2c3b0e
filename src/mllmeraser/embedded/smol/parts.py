"""What ships of `embedded:smol`: adapters and projector in half precision, and merging them into the base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from mllmeraser.samples.files import whole_file

PROJECTOR, ADAPTER = "projector.", "adapter."
_TRAINED = re.compile(r"model\.language_model\.(.+)\.lora_([AB])\.default\.weight")
_TRAINED_PROJECTOR = "model.multi_modal_projector."


def write_parts(trained: Mapping[str, torch.Tensor], scale: float, file: Path) -> None:
    """Write adapters and projector, of parameters by name, in float16. `scale` multiplies the product of adapters."""
    parts = {}
    for name, tensor in trained.items():
        if match := _TRAINED.fullmatch(name):
            module, side = match.groups()
            # The scale is taken into B, which starts at zero.
            parts[f"{ADAPTER}{module}.{side}"] = tensor * (scale if side == "B" else 1.0)
        elif name.startswith(_TRAINED_PROJECTOR):
            parts[PROJECTOR + name.removeprefix(_TRAINED_PROJECTOR)] = tensor
    halves = {name: tensor.half().contiguous() for name, tensor in parts.items()}
    if not all(bool(half.isfinite().all()) for half in halves.values()):
        raise ValueError("a trained weight does not fit into half precision")
    with whole_file(file, force=True) as beside:
        save_file(halves, beside)


@torch.no_grad()
def merge_parts(model: LlavaForConditionalGeneration, file: Path) -> None:
    """Set the projector, and add every adapter to its weight, in double precision."""
    parts, language = load_file(file), model.model.language_model
    projector = {name.removeprefix(PROJECTOR): p.float() for name, p in parts.items() if name.startswith(PROJECTOR)}
    model.model.multi_modal_projector.load_state_dict(projector)
    modules = sorted({name[len(ADAPTER) : -2] for name in parts if name.startswith(ADAPTER)})
    for module in modules:
        a, b = (parts[f"{ADAPTER}{module}.{side}"].double() for side in "AB")
        weight = language.get_submodule(module).weight
        weight.copy_((weight.double() + b @ a).float())
