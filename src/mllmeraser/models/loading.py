"""Loading a model by name: embedded, folder, or hub id; safetensors only, never remote code."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from mllmeraser.models.families import Family, families, family_for
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.weights import (
    Placement,
    Quantisation,
    TensorParallel,
    check_heads,
    check_packed,
    first_line,
    load_weights,
)
from mllmeraser.samples.errors import InputError, UnknownFamilyError

Resolver = Callable[[str], "Path | str"]
"""Turns the part of a name after the colon into a checkpoint folder; raises InputError for an unknown one."""

# Named, not imported: models/ lies below embedded/, and a program that never asks for an embedded model
# never loads it.
_RESOLVERS: dict[str, str | Resolver] = {"embedded": "mllmeraser.embedded:checkpoint_path"}


def register_resolver(prefix: str, resolver: str | Resolver) -> None:
    """Serve names `prefix:rest` by `resolver(rest)`; `"module:function"` names one to import when needed."""
    _RESOLVERS[prefix] = resolver


def resolve(name: str) -> str:
    """Folder or hub id that `name` stands for.

    Raises:
        InputError: If the name is empty, its prefix or what follows it is unknown, or the folder does not
            exist or is no checkpoint.
    """
    if not name.strip():
        raise InputError("no model given: expected a folder, a hub id, or " + _prefixes())
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _RESOLVERS:
        return _resolve_prefixed(name, prefix, rest)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{name} is not a model: it has no config.json")
        return str(path)
    if _looks_like_path(name) or path.exists():
        raise InputError(f"no model folder {name!r}")
    if colon:
        raise InputError(f"unknown model {name!r}: expected a folder, a hub id, or {_prefixes()}")
    return name


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    device_map: str | dict[str, Any] | None = None,
    quantisation: Quantisation | None = None,
    adapter: str | None = None,
    tp_plan: TensorParallel | None = None,
) -> MultimodalModel:
    """Load a frozen multimodal model: evaluation mode, no parameter asks for a gradient.

    Args:
        name: Hub id, checkpoint folder, or `embedded:...`.
        revision: Branch, tag or commit of a hub checkpoint.
        dtype: Type of the weights, as a torch dtype or its name; by default float32 on a CPU and what the
            checkpoint states on an accelerator.
        device: By default the first CUDA device if there is one, else the CPU.
        device_map: How accelerate spreads the weights over devices, CPU memory and disk: `"auto"`, or modules to
            devices. In place of `device`.
        quantisation: `"int8"` or `"nf4"` (4 bit) by bitsandbytes; a checkpoint that is quantised needs no word.
        adapter: Folder or hub id of a PEFT adapter to put on the weights; safetensors only.
        tp_plan: `"auto"` spreads every block over the processes of a `torchrun`. All of them then have to do the same
            in the same order: load, attach, run, ask for the fingerprint.

    Raises:
        InputError: If there is no such model, it has no safetensors weights, weights are missing from it, or a package
            that this takes is not installed.
        UnknownFamilyError: If no adapter serves its model type; no weights are read then.
    """
    source = resolve(name)
    placement = Placement(dtype, device, device_map, quantisation, adapter, tp_plan)
    config = _config(name, source, revision)
    family = family_for(config)
    packed = check_packed(name, config, placement)
    check_heads(name, config, placement)
    processor = _processor(name, source, revision, family)
    hf = load_weights(name, source, revision, placement, packed)
    return MultimodalModel(name, hf, processor, family, revision or getattr(config, "_commit_hash", None))


def _resolve_prefixed(name: str, prefix: str, rest: str) -> str:
    resolver = _RESOLVERS[prefix]
    if isinstance(resolver, str):
        module, _, function = resolver.partition(":")
        try:
            resolver = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise InputError(f"cannot look up {name!r}: {first_line(error)}") from error
    try:
        folder = Path(resolver(rest))
    except (KeyError, ValueError, FileNotFoundError) as error:
        raise InputError(f"unknown model {name!r}: {first_line(error)}") from error
    if not (folder / "config.json").is_file():
        raise InputError(f"unknown model {name!r}: {folder} holds no checkpoint")
    return str(folder)


def _config(name: str, source: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except OSError as error:
        raise InputError(f"cannot load the model {name!r}: {first_line(error)}") from error
    except ValueError as error:
        known = ", ".join(family.name for family in families())
        raise UnknownFamilyError(f"{name!r}: {first_line(error)} Known families: {known}") from error


def _processor(name: str, source: str, revision: str | None, family: Family) -> Any:
    try:
        processor = family.load_processor(source, revision)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise InputError(f"cannot load the processor of {name!r}: {first_line(error)}") from error
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or name.endswith("/")


def _prefixes() -> str:
    return ", ".join(f"{prefix}:..." for prefix in sorted(_RESOLVERS))
