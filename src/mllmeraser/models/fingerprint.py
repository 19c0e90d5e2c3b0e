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
    it is not a signature.

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
    return digest.hexdigest()


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
    bits = settings.get("bits")
    return f"{method} {bits} bit" if bits else method


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
    flat = parameter.detach().reshape(-1)
    count = flat.numel()
    chosen = torch.linspace(0, max(count - 1, 0), min(count, SAMPLED), dtype=torch.float64).long()
    return flat[chosen.to(flat.device)].float().cpu().numpy().tobytes()
