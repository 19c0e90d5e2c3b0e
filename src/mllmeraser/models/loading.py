"""Loading a model by name: embedded, folder, or hub id; safetensors only, never remote code."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from mllmeraser.models.families import Family, families, family_for
from mllmeraser.models.model import MultimodalModel
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
) -> MultimodalModel:
    """Load a frozen multimodal model: evaluation mode, no parameter asks for a gradient.

    Args:
        name: Hub id, checkpoint folder, or `embedded:...`.
        revision: Branch, tag or commit of a hub checkpoint.
        dtype: Type of the weights, as a torch dtype or its name; by default float32 on a CPU and what the
            checkpoint states on an accelerator.
        device: By default the first CUDA device if there is one, else the CPU.

    Raises:
        InputError: If there is no such model, it has no safetensors weights, or weights are missing from it.
        UnknownFamilyError: If no adapter serves its model type; no weights are read then.
    """
    source = resolve(name)
    place = _device(device)
    config = _config(name, source, revision)
    family = family_for(config)
    processor = _processor(name, source, revision, family)
    hf = _weights(name, source, revision, _dtype(dtype, place))
    hf.to(place).eval().requires_grad_(False)
    return MultimodalModel(name, hf, processor, family, revision or getattr(config, "_commit_hash", None))


def _resolve_prefixed(name: str, prefix: str, rest: str) -> str:
    resolver = _RESOLVERS[prefix]
    if isinstance(resolver, str):
        module, _, function = resolver.partition(":")
        try:
            resolver = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise InputError(f"cannot look up {name!r}: {_first_line(error)}") from error
    try:
        folder = Path(resolver(rest))
    except (KeyError, ValueError, FileNotFoundError) as error:
        raise InputError(f"unknown model {name!r}: {_first_line(error)}") from error
    if not (folder / "config.json").is_file():
        raise InputError(f"unknown model {name!r}: {folder} holds no checkpoint")
    return str(folder)


def _config(name: str, source: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except OSError as error:
        raise InputError(f"cannot load the model {name!r}: {_first_line(error)}") from error
    except ValueError as error:
        known = ", ".join(family.name for family in families())
        raise UnknownFamilyError(f"{name!r}: {_first_line(error)} Known families: {known}") from error


def _processor(name: str, source: str, revision: str | None, family: Family) -> Any:
    try:
        processor = family.load_processor(source, revision)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise InputError(f"cannot load the processor of {name!r}: {_first_line(error)}") from error
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _weights(name: str, source: str, revision: str | None, dtype: torch.dtype | str) -> PreTrainedModel:
    try:
        hf, info = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"cannot load the weights of {name!r}: {_first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills these with random numbers and only warns.
        raise InputError(f"the checkpoint {name!r} lacks {len(missing)} weights, such as {missing[0]}")
    return hf


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}") from error


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | str:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"unknown dtype {dtype!r}: float32, bfloat16 and float16 are common")
    return found


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or name.endswith("/")


def _prefixes() -> str:
    return ", ".join(f"{prefix}:..." for prefix in sorted(_RESOLVERS))


def _first_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
