"""Short digests that bind an eraser to the weights and the prompt format it was fitted on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mllmeraser.models.families import Family, family_for
from mllmeraser.samples.errors import InputError

SAMPLED = 64
"""Values looked at in each parameter."""

_WRAPPERS = frozenset({"model", "base_model", "language_model", "vision_model"})


_PACKED = "_mllmeraser_packed"
_TAKEN: ContextVar[dict[int, str] | None] = ContextVar("taken", default=None)


@contextmanager
def taken_once() -> Iterator[None]:
    """Within this block no weight changes: the fingerprint of a model is taken once, however often it is asked for."""
    token = _TAKEN.set({})
    try:
        yield
    finally:
        _TAKEN.reset(token)


def fingerprint(hf: PreTrainedModel, family: Family | None = None) -> str:
    """SHA-256 (hex) over architecture, dtype, and name, shape and sampled values of every parameter.

    Equal after saving and loading; different for other weights, another architecture or another dtype.
    Wrapper modules that transformers renames between versions (`model`, `language_model`, `vision_model`)
    do not count. A change confined to values between the samples goes unseen: this catches the wrong model,
    it is not a signature. Packed weights that are no parameters (GPTQ, AWQ) count as `load_model` found them; of
    a quantised model that was loaded otherwise, as they are now, which with some kernels changes in the first pass.
    A model that is spread over processes has that of the whole one: each of them has to ask for it.

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
    named = sorted((_canonical(name), name, parameter) for name, parameter in _unique(hf).items())
    for canonical, name, parameter in named:
        digest.update(f"\n{canonical}{tuple(parameter.shape)}".encode())
        digest.update(_sample(hf, name, parameter))
    digest.update((getattr(hf, _PACKED, None) or _packed(hf)).encode())
    return digest.hexdigest()


def note_packed(hf: PreTrainedModel) -> None:
    """Remember the packed weights of a model that has not run yet: a kernel may pack them anew when they are used."""
    packed = _packed(hf)
    if packed:
        setattr(hf, _PACKED, packed)
        hf.register_load_state_dict_post_hook(_forget_packed)


def _forget_packed(hf: nn.Module, _keys: object) -> None:
    """Other weights have been put into the model."""
    setattr(hf, _PACKED, None)


def _packed(hf: PreTrainedModel) -> str:
    """SHA-256 (hex) over what a quantised model saves besides its parameters; empty where that is nothing."""
    if _quantisation(hf) is None:
        return ""
    found = {
        f"{prefix}.{name}": buffer
        for prefix, module in hf.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    }
    digest = hashlib.sha256()
    for canonical, name in sorted((_canonical(name), name) for name in found):
        digest.update(f"\n{canonical}{tuple(found[name].shape)}".encode())
        digest.update(_sample(hf, name, found[name]))
    return digest.hexdigest() if found else ""


def is_spread(hf: nn.Module) -> bool:
    """Whether weights are spread over processes (tensor parallelism)."""
    return any(_is_shard(weight) for weight in hf.parameters())


def active_adapters(hf: nn.Module) -> tuple[str, ...]:
    """Names of the PEFT adapters that take part in a pass, sorted; none where there are none or all are switched off.

    Which they are can change from one pass to the next, and the model with it.
    """
    if not getattr(hf, "_hf_peft_config_loaded", False) and not hasattr(hf, "peft_config"):
        return ()
    found: set[str] = set()
    for module in hf.modules():
        if not getattr(module, "disable_adapters", True):
            found.update(getattr(module, "active_adapters", ()))
    return tuple(sorted(found))


def precision_of(hf: PreTrainedModel) -> str:
    """In which numbers a model's weights are: `"float32"`, or `"int8 (bitsandbytes), float16"` and the like."""
    dtype = str(hf.dtype).removeprefix("torch.")
    how = _quantisation(hf)
    return dtype if how is None else f"{how}, {dtype}"


def _quantisation(hf: PreTrainedModel) -> str | None:
    found = getattr(hf.config, "quantization_config", None)
    if found is None:
        return None
    settings = found if isinstance(found, dict) else found.to_dict()
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))
    if method == "bitsandbytes":
        return f"{'int8' if settings.get('load_in_8bit') else settings.get('bnb_4bit_quant_type', '4 bit')} ({method})"
    bits, kind = settings.get("bits"), settings.get("format") or settings.get("weights")
    if method == "torchao":
        kind = type(getattr(found, "quant_type", None)).__name__
    return f"{method} {bits} bit" if bits else f"{method} {kind}" if isinstance(kind, str) else method


def prompt_hash(processor: Any, family: Family) -> str:
    """SHA-256 (hex) over how a fixed question is rendered and tokenised, with an image and without."""
    digest = hashlib.sha256()
    for has_image in (False, True):
        text = family.render(processor, "Who is this? {x}", has_image)
        ids = processor.tokenizer(text)["input_ids"]
        digest.update(json.dumps([text, list(ids)]).encode())
    return digest.hexdigest()


def _essentials(hf: PreTrainedModel, family: Family) -> dict[str, Any]:
    """What changes the function of a model without showing in the shapes of its weights."""
    text = family.text_config(hf)
    rope = getattr(text, "rope_parameters", None) or {}
    how, adapters = _quantisation(hf), active_adapters(hf)
    return {
        **({} if how is None else {"quantisation": how}),
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


def _unique(hf: PreTrainedModel) -> dict[str, Tensor]:
    return {name: _stored(hf, name, weight) for name, weight in hf.named_parameters(remove_duplicate=True)}


def _stored(hf: PreTrainedModel, name: str, weight: Tensor) -> Tensor:
    """A weight as a checkpoint has it: on a CPU, bitsandbytes packs 4-bit weights anew once they were used."""
    if not getattr(getattr(weight, "quant_state", None), "packing_format_for_cpu", False):
        return weight
    owner, _, last = name.rpartition(".")
    found: Tensor = hf.get_submodule(owner).state_dict()[last]
    return found


def _canonical(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _sample(hf: PreTrainedModel, name: str, parameter: Tensor) -> bytes:
    with _in_memory(hf, name) if parameter.is_meta else nullcontext(parameter) as found:
        if found.is_meta:
            raise InputError(f"the weights of {name} are not in memory, so the model cannot be recognised")
        return _values(found)


@contextmanager
def _in_memory(hf: PreTrainedModel, name: str) -> Iterator[Tensor]:
    """A weight that accelerate keeps elsewhere (CPU or disk offload), fetched while the context is open."""
    from accelerate.utils import align_module_device

    owner, _, last = name.rpartition(".")
    module = hf.get_submodule(owner)
    with align_module_device(module):
        yield getattr(module, last)


def _values(parameter: Tensor) -> bytes:
    return b"".join(_sampled(part) for part in _parts(parameter.detach()))


def _parts(weight: Tensor) -> Iterator[Tensor]:
    """The plain tensors in a weight: all of a spread one, numbers and scales of a quantised one."""
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
        flat = flat.view(torch.uint8)  # what can be done with float8 differs between devices
    count = flat.numel()
    chosen = torch.linspace(0, max(count - 1, 0), min(count, SAMPLED), dtype=torch.float64).long()
    found = flat[chosen.to(flat.device)]
    wide = found.dtype in (torch.int32, torch.int64)  # of which a float32 would drop the last bits
    return (found.double() if wide else found.float()).cpu().numpy().tobytes()
