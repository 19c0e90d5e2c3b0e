"""Registry of model families by `config.model_type`.

Another model type is an error. It names the known families, the module lists of the model, and the line that would
register an adapter.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mllmeraser.models.families.assembled import AssembledProcessor
from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.declared import DECLARED
from mllmeraser.models.families.idefics2 import Idefics2
from mllmeraser.models.families.llava import Llava, VipLlava
from mllmeraser.models.families.mllama import Mllama
from mllmeraser.models.families.own_processor import OwnProcessor
from mllmeraser.models.families.paligemma import PaliGemma
from mllmeraser.models.families.patch_rows import PatchRows
from mllmeraser.models.families.pixels import PixelSpace
from mllmeraser.models.families.pixtral import Pixtral
from mllmeraser.models.families.plugins import announced
from mllmeraser.models.families.unsupported import reason_against
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
    """Use `family` for each of its model types; a later registration replaces an earlier one."""
    _FAMILIES.update(dict.fromkeys(family.model_types, family))
    return family


def families() -> tuple[Family, ...]:
    """All families by name: built-in, registered, and of other packages; an unusable package causes a warning."""
    others, problems = announced()
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return tuple(sorted({*_FAMILIES.values(), *others}, key=lambda family: family.name))


def family_for(hf_config: Any, model: nn.Module | None = None) -> Family:
    """Family of a transformers configuration; the error message names the module lists of `model`.

    Raises:
        UnknownFamilyError: If this model type cannot be steered, or no adapter serves it.
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
    """Paths and lengths of every outermost `ModuleList` of `model`, the candidates for a decoder."""
    outermost: list[tuple[str, int]] = []
    for path, module in model.named_modules() if model is not None else ():
        inside = any(path.startswith(f"{outer}.") for outer, _ in outermost)
        if isinstance(module, nn.ModuleList) and not inside:
            outermost.append((path, len(module)))
    return outermost


def _unknown(hf_config: Any, model_type: str, model: nn.Module | None) -> str:
    builtin = sorted(set(_FAMILIES.values()), key=lambda family: family.name)
    known = ", ".join(one.name for one in (*builtin, *announced()[0]))
    module_lists = candidates(model if model is not None else _skeleton(hf_config))
    lists = ", ".join(f"{path} ({length})" for path, length in module_lists) or "none"
    path = _likeliest(module_lists, getattr(hf_config, "text_config", hf_config))
    return (
        f"no adapter for model type {model_type!r}; known families: {known}; candidate module lists: {lists}; "
        f"an adapter is a line: register(OwnProcessor({model_type!r}, ({model_type!r},), decoder_paths=({path!r},))), "
        "see docs/families.md"
    )


def _likeliest(module_lists: Sequence[tuple[str, int]], text_config: Any) -> str:
    """A candidate of the depth of the text configuration, preferably outside of towers."""
    depth = getattr(text_config, "num_hidden_layers", None)
    deep = [path for path, length in module_lists if length == depth]
    outside = [path for path in deep if not any(part in path for part in ("vision", "visual", "audio", "encoder"))]
    return next(iter([*outside, *deep]), "path.to.layers")


def _skeleton(hf_config: Any) -> nn.Module | None:
    """The model of a configuration without its weights, or None if transformers cannot build it."""
    from transformers import AutoModel, AutoModelForImageTextToText

    for auto in (AutoModelForImageTextToText, AutoModel):
        try:
            with torch.device("meta"):
                return auto.from_config(hf_config)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError):
            continue
    return None


for _family in (Llava(), VipLlava(), PaliGemma(), Pixtral(), Mllama(), Idefics2(), *DECLARED):
    register(_family)
