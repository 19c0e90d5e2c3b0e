"""Registry of model families, found by `config.model_type`.

Nothing is guessed: a model of another type is an error that names the known families, the module lists an adapter
could point at, and the line that would register one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mllmeraser.models.families.assembled import AssembledProcessor
from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.idefics2 import Idefics2
from mllmeraser.models.families.llava import Llava, VipLlava
from mllmeraser.models.families.mllama import Mllama
from mllmeraser.models.families.own_processor import OwnProcessor
from mllmeraser.models.families.paligemma import PaliGemma
from mllmeraser.models.families.patch_rows import PatchRows
from mllmeraser.models.families.pixels import PixelSpace
from mllmeraser.models.families.pixtral import Pixtral
from mllmeraser.models.families.plugins import announced
from mllmeraser.models.families.qwen2_5_vl import Qwen25VL
from mllmeraser.models.families.refused import reason_against
from mllmeraser.models.families.table import TABLE
from mllmeraser.samples.errors import UnknownFamilyError

__all__ = [
    "AssembledProcessor",
    "Family",
    "OwnProcessor",
    "PatchRows",
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
    """Every family once, by name: the built-in ones, the registered, those of other packages.

    A package whose family cannot be loaded is left out, with a warning.
    """
    others, problems = announced()
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return tuple(sorted({*_FAMILIES.values(), *others}, key=lambda family: family.name))


def family_for(hf_config: Any, model: nn.Module | None = None) -> Family:
    """Family of a transformers configuration.

    Args:
        hf_config: Configuration of the top model.
        model: The model itself if it is at hand; only its module names are read, for the error message.

    Raises:
        UnknownFamilyError: If this model type cannot be steered, or no adapter serves it; then it lists the known
            families, every module list of the model with its length, and the line that registers an adapter.
    """
    model_type = str(getattr(hf_config, "model_type", None))
    vision_type = getattr(getattr(hf_config, "vision_config", None), "model_type", None)
    family = _FAMILIES.get(f"{model_type}/{vision_type}") or _FAMILIES.get(model_type)
    if family is not None:
        return family
    against = reason_against(hf_config)
    if against is not None:
        raise UnknownFamilyError(f"a model of type {model_type!r} cannot be steered: {against}")
    others, problems = announced()
    for other in others:
        if model_type in other.model_types:
            return other
    raise UnknownFamilyError("; ".join([_unknown(hf_config, model_type, model), *problems]))


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


def _unknown(hf_config: Any, model_type: str, model: nn.Module | None) -> str:
    known = ", ".join(one.name for one in (*_builtin(), *announced()[0]))
    found = candidates(model if model is not None else _skeleton(hf_config))
    lists = ", ".join(f"{path} ({length})" for path, length in found) or "none found"
    path = _likeliest(found, getattr(hf_config, "text_config", hf_config))
    return (
        f"no adapter for model type {model_type!r}; known families: {known}; candidate module lists: {lists}; "
        f"an adapter is a line: register(OwnProcessor({model_type!r}, ({model_type!r},), decoder_paths=({path!r},))), "
        "see docs/families.md"
    )


def _builtin() -> Sequence[Family]:
    return sorted(set(_FAMILIES.values()), key=lambda family: family.name)


def _likeliest(found: Sequence[tuple[str, int]], text_config: Any) -> str:
    """The candidate as deep as the text configuration states, outside of towers if there is a choice."""
    depth = getattr(text_config, "num_hidden_layers", None)
    deep = [path for path, length in found if length == depth]
    outside = [path for path in deep if not any(part in path for part in ("vision", "visual", "audio", "encoder"))]
    return next(iter([*outside, *deep]), "path.to.layers")


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


for _family in (Llava(), VipLlava(), Qwen25VL(), PaliGemma(), Pixtral(), Mllama(), Idefics2(), *TABLE):
    register(_family)
