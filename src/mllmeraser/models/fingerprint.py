"""Digests that bind an eraser to the weights and the prompt format of its fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mllmeraser.models.families import Family, family_for
from mllmeraser.samples.errors import InputError

SAMPLED = 64
"""Values to sample from each parameter."""

_WRAPPERS = frozenset({"model", "base_model", "language_model", "vision_model"})
_PACKED = "_mllmeraser_packed"
_TAKEN: ContextVar[dict[int, str] | None] = ContextVar("taken", default=None)


@contextmanager
def taken_once() -> Iterator[None]:
    """Compute the fingerprint of each model once inside this block; the caller changes no weight there."""
    token = _TAKEN.set({})
    try:
        yield
    finally:
        _TAKEN.reset(token)


def fingerprint(hf: PreTrainedModel, family: Family | None = None) -> str:
    """SHA-256 (hex) over architecture, dtype, and name, shape and sampled values of every parameter.

    Equal after saving and loading; different for other weights, another architecture or another dtype. Wrapper modules
    that transformers renames between versions (`model`, `language_model`, `vision_model`) do not count. It detects a
    wrong model and is no signature: a change of values between the samples does not change it.

    Packed weights that are no parameters (GPTQ, AWQ) count as they were after `load_model`. A quantized model from
    elsewhere counts as it is now; some kernels change the packed weights in the first pass. For a model spread over
    processes the result is that of the whole model, and every process must call this function.

    Raises:
        InputError: If weights are not in memory (meta device).
        UnknownFamilyError: If no adapter serves this model.
    """
    taken = _TAKEN.get()
    if taken is None:
        return _fingerprint(hf, family)
    if id(hf) not in taken:
        taken[id(hf)] = _fingerprint(hf, family)
    return taken[id(hf)]


def _fingerprint(hf: PreTrainedModel, family: Family | None) -> str:
    family = family or family_for(hf.config, hf)
    digest = hashlib.sha256(json.dumps(_essentials(hf, family), sort_keys=True).encode())
    _update(digest, hf, {name: _stored(hf, name, p) for name, p in hf.named_parameters(remove_duplicate=True)})
    digest.update((getattr(hf, _PACKED, None) or _packed(hf)).encode())
    return digest.hexdigest()


def note_packed(hf: PreTrainedModel) -> None:
    """Remember the packed weights of a model before its first pass, because a kernel may repack them at first use."""
    packed = _packed(hf)
    if packed:
        setattr(hf, _PACKED, packed)
        hf.register_load_state_dict_post_hook(_forget_packed)


def _forget_packed(hf: nn.Module, _keys: object) -> None:
    setattr(hf, _PACKED, None)


def _packed(hf: PreTrainedModel) -> str:
    """SHA-256 (hex) over the persistent buffers of a quantized model; empty without any."""
    if _quantization(hf) is None:
        return ""
    buffers = {
        f"{prefix}.{name}": buffer
        for prefix, module in hf.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    }
    digest = hashlib.sha256()
    _update(digest, hf, buffers)
    return digest.hexdigest() if buffers else ""


def _update(digest: hashlib._Hash, hf: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    for canonical, name in sorted((_canonical(name), name) for name in tensors):
        digest.update(f"\n{canonical}{tuple(tensors[name].shape)}".encode())
        digest.update(_sample(hf, name, tensors[name]))


def is_spread(hf: nn.Module) -> bool:
    """Whether weights are sharded over processes (tensor parallelism)."""
    return any(_is_shard(weight) for weight in hf.parameters())


def active_adapters(hf: nn.Module) -> tuple[str, ...]:
    """Sorted names of the PEFT adapters that are switched on now; a caller may switch them between two passes."""
    if not getattr(hf, "_hf_peft_config_loaded", False) and not hasattr(hf, "peft_config"):
        return ()
    active = (m for m in hf.modules() if not getattr(m, "disable_adapters", True))
    return tuple(sorted({name for module in active for name in getattr(module, "active_adapters", ())}))


def precision_of(hf: PreTrainedModel) -> str:
    """The number format of a model's weights, such as `"float32"` or `"int8 (bitsandbytes), float16"`."""
    dtype = str(hf.dtype).removeprefix("torch.")
    scheme = _quantization(hf)
    return dtype if scheme is None else f"{scheme}, {dtype}"


def quantization_settings(config: Any) -> tuple[str, dict[str, Any]]:
    """Method and settings of a quantization configuration, which may be an object or a mapping."""
    settings: dict[str, Any] = config if isinstance(config, dict) else config.to_dict()
    return str(getattr(settings.get("quant_method"), "value", settings.get("quant_method"))), settings


def _quantization(hf: PreTrainedModel) -> str | None:
    config = getattr(hf.config, "quantization_config", None)
    if config is None:
        return None
    method, settings = quantization_settings(config)
    if method == "bitsandbytes":
        return f"{'int8' if settings.get('load_in_8bit') else settings.get('bnb_4bit_quant_type', '4 bit')} ({method})"
    bits, kind = settings.get("bits"), settings.get("format") or settings.get("weights")
    if method == "torchao":
        kind = type(getattr(config, "quant_type", None)).__name__
    return f"{method} {bits} bit" if bits else f"{method} {kind}" if isinstance(kind, str) else method


def prompt_hash(processor: Any, family: Family) -> str:
    """SHA-256 (hex) over the text and tokens of a fixed question, with an image and without."""
    digest = hashlib.sha256()
    for has_image in (False, True):
        text = family.render(processor, "Who is this? {x}", has_image)
        ids = processor.tokenizer(text)["input_ids"]
        digest.update(json.dumps([text, list(ids)]).encode())
    return digest.hexdigest()


def _essentials(hf: PreTrainedModel, family: Family) -> dict[str, Any]:
    """Properties that change the function of a model but not the shapes of its weights."""
    text = family.text_config(hf)
    rope = getattr(text, "rope_parameters", None) or {}
    scheme, adapters = _quantization(hf), active_adapters(hf)
    return {
        **({} if scheme is None else {"quantisation": scheme}),
        **({"adapters": list(adapters)} if adapters else {}),
        "family": family.name,
        "dtype": str(hf.dtype),
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "kv_heads": getattr(text, "num_key_value_heads", None),
        "eps": getattr(text, "rms_norm_eps", None),
        "rope_theta": float(rope.get("rope_theta") or getattr(text, "rope_theta", None) or 0.0),
        "image_token": family.image_token_id(hf),
        "vision_feature_layer": getattr(hf.config, "vision_feature_layer", None),
    }


def _stored(hf: PreTrainedModel, name: str, weight: Tensor) -> Tensor:
    """A weight in its checkpoint format; on a CPU, bitsandbytes repacks 4-bit weights at first use."""
    if not getattr(getattr(weight, "quant_state", None), "packing_format_for_cpu", False):
        return weight
    owner, _, last = name.rpartition(".")
    stored: Tensor = hf.get_submodule(owner).state_dict()[last]
    return stored


def _canonical(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _sample(hf: PreTrainedModel, name: str, parameter: Tensor) -> bytes:
    with _in_memory(hf, name) if parameter.is_meta else nullcontext(parameter) as weight:
        if weight.is_meta:
            raise InputError(f"the weights of {name} are not in memory, so the model cannot be recognized")
        return b"".join(_sampled(part) for part in _parts(weight.detach()))


@contextmanager
def _in_memory(hf: PreTrainedModel, name: str) -> Iterator[Tensor]:
    """A weight offloaded by accelerate (to CPU or disk), in memory while the context is open."""
    from accelerate.utils import align_module_device

    owner, _, last = name.rpartition(".")
    module = hf.get_submodule(owner)
    with align_module_device(module):
        yield getattr(module, last)


def _parts(weight: Tensor) -> Iterator[Tensor]:
    """The plain tensors of a weight: the whole of a sharded one, numbers and scales of a quantized one."""
    if _is_shard(weight):
        yield from _parts(weight.full_tensor())  # type: ignore[attr-defined]
    elif hasattr(weight, "__tensor_flatten__"):
        for name in weight.__tensor_flatten__()[0]:
            yield from _parts(getattr(weight, name))
    else:
        yield weight


def _is_shard(weight: Tensor) -> bool:
    return callable(getattr(weight, "full_tensor", None))


def _sampled(part: Tensor) -> bytes:
    flat = part.reshape(-1)
    if flat.is_floating_point() and flat.element_size() == 1:
        flat = flat.view(torch.uint8)  # float8 operations differ between devices
    count = flat.numel()
    chosen = torch.linspace(0, max(count - 1, 0), min(count, SAMPLED), dtype=torch.float64).long()
    values = flat[chosen.to(flat.device)]
    wide = values.dtype in (torch.int32, torch.int64)  # a float32 would lose their last bits
    return (values.double() if wide else values.float()).cpu().numpy().tobytes()
