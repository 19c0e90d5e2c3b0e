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
    Quantization,
    TensorParallel,
    check_heads,
    check_packed,
    first_line,
    load_weights,
)
from mllmeraser.samples.errors import InputError, UnknownFamilyError

Resolver = Callable[[str], "Path | str"]
"""Returns the checkpoint folder for the part of a name after the colon; raises InputError for an unknown one."""

# A name, because models/ must not import embedded/, and only a program with an embedded model needs to load it.
_RESOLVERS: dict[str, str | Resolver] = {"embedded": "mllmeraser.embedded:checkpoint_path"}


def register_resolver(prefix: str, resolver: str | Resolver) -> None:
    """Resolve names `prefix:rest` by `resolver(rest)`; `"module:function"` is imported at its first use."""
    _RESOLVERS[prefix] = resolver


def resolve(name: str) -> str:
    """Folder or hub id of a model name.

    Raises:
        InputError: If the name is empty or unknown, or the folder does not exist or is no checkpoint.
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
    quantization: Quantization | None = None,
    adapter: str | None = None,
    tp_plan: TensorParallel | None = None,
    quantisation: Quantization | None = None,
) -> MultimodalModel:
    """Load a frozen multimodal model: evaluation mode, no gradients.

    Args:
        name: Hub id, checkpoint folder, or `embedded:...`.
        revision: Branch, tag or commit of a hub checkpoint.
        dtype: Type of the weights, as a torch dtype or its name; by default float32 on a CPU, and the type of the
            checkpoint on an accelerator.
        device: By default the first CUDA device if there is one, else the CPU.
        device_map: Instead of `device`, the placement of modules by accelerate on devices, CPU memory and disk:
            `"auto"`, or a mapping of modules to devices.
        quantization: `"int8"` or `"nf4"` (4 bit) by bitsandbytes; leave it out for a quantized checkpoint.
        adapter: Folder or hub id of a PEFT adapter for the weights; safetensors only.
        tp_plan: `"auto"` spreads every block over the processes of a `torchrun`. All processes must then load, attach,
            run and compute the fingerprint in the same order.
        quantisation: The old spelling of `quantization`.

    Raises:
        InputError: If there is no such model, its weights are incomplete or no safetensors, or a package is missing.
        UnknownFamilyError: If no adapter serves its model type; no weights are read then.
    """
    source = resolve(name)
    placement = Placement(dtype, device, device_map, quantization or quantisation, adapter, tp_plan)
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
