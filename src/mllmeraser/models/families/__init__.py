"""Registry of model families: one adapter file per family, found by `config.model_type`.

Nothing is guessed: a model of another type is an error that names the known families and the module
lists an adapter could point at.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.llava import Llava
from mllmeraser.models.families.pixels import PixelSpace
from mllmeraser.models.families.qwen2_5_vl import AssembledProcessor, Qwen25VL
from mllmeraser.samples.errors import UnknownFamilyError

__all__ = [
    "AssembledProcessor",
    "Family",
    "PixelInputs",
    "PixelSpace",
    "candidates",
    "families",
    "family_for",
    "register",
]

_FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make `family` known for each of its model types; a later registration replaces an earlier one."""
    for model_type in family.model_types:
        _FAMILIES[model_type] = family
    return family


def families() -> tuple[Family, ...]:
    """Every registered family once, by name."""
    return tuple(sorted(set(_FAMILIES.values()), key=lambda family: family.name))


def family_for(hf_config: Any, model: nn.Module | None = None) -> Family:
    """Family of a transformers configuration.

    Args:
        hf_config: Configuration of the top model.
        model: The model itself if it is at hand; only its module names are read, for the error message.

    Raises:
        UnknownFamilyError: If no adapter serves this model type; lists the known families and every module
            list of the model with its length.
    """
    model_type = getattr(hf_config, "model_type", None)
    family = _FAMILIES.get(str(model_type))
    if family is not None:
        return family
    known = ", ".join(f"{one.name} ({', '.join(one.model_types)})" for one in families())
    found = candidates(model if model is not None else _skeleton(hf_config))
    lists = ", ".join(f"{path} ({length})" for path, length in found) or "none found"
    raise UnknownFamilyError(
        f"no adapter for model type {model_type!r}; known families: {known}; candidate module lists: {lists}"
    )


def candidates(model: nn.Module | None) -> list[tuple[str, int]]:
    """Paths and lengths of every outermost `ModuleList` of `model`, where a decoder could be."""
    if model is None:
        return []
    found: list[tuple[str, int]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and not inside:
            found.append((path, len(module)))
    return found


def _skeleton(hf_config: Any) -> nn.Module | None:
    """The model of a configuration without its weights, or None where transformers cannot build one."""
    from transformers import AutoModel, AutoModelForImageTextToText

    for auto in (AutoModelForImageTextToText, AutoModel):
        try:
            with torch.device("meta"):
                return auto.from_config(hf_config)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError):
            continue
    return None


register(Llava())
register(Qwen25VL())
