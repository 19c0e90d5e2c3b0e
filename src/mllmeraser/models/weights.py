"""The weights of a checkpoint: their number format, devices and adapter."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel
from transformers.quantizers import AutoHfQuantizer

from mllmeraser.models.fingerprint import is_spread, note_packed, quantization_settings
from mllmeraser.samples.errors import InputError

Quantization = Literal["int8", "nf4"]
TensorParallel = Literal["auto"]
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
NEEDED = {
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "gptq": ("gptqmodel", "optimum"),
    "quanto": ("optimum-quanto",),
    "torchao": ("torchao",),
}
"""Packages that transformers needs for a quantized checkpoint, by method; all methods also need accelerate."""
_MODULES = {"compressed-tensors": "compressed_tensors", "optimum-quanto": "optimum.quanto", "optimum": "optimum.gptq"}


@dataclass(frozen=True)
class Placement:
    """Number format, devices and adapter of the weights to load; see `load_model` for the fields."""

    dtype: torch.dtype | str | None = None
    device: torch.device | str | None = None
    device_map: str | dict[str, Any] | None = None
    quantization: Quantization | None = None
    adapter: str | None = None
    tp_plan: TensorParallel | None = None

    def __post_init__(self) -> None:
        """Raise an `InputError` if a value is unknown, two contradict each other, or a package is missing."""
        if self.device is not None and self.device_map is not None:
            raise InputError("give a device, or a device_map that spreads the model, not both")
        known = get_args(Quantization)
        if self.quantization is not None and self.quantization not in known:
            raise InputError(f"unknown quantization {self.quantization!r}: known are {', '.join(known)}")
        _device(self.device)
        self.torch_dtype()
        self._check_parallel()
        for wanted, package, extra in (
            (self.quantization, "bitsandbytes", "quantised"),
            (self.device_map, "accelerate", "train"),
            (self.adapter, "peft", "train"),
        ):
            if wanted is not None and find_spec(package) is None:
                raise InputError(f"this needs {package}: pip install 'mllmeraser[{extra}]'")

    def _check_parallel(self) -> None:
        if self.tp_plan is None:
            return
        if self.tp_plan not in get_args(TensorParallel):
            raise InputError(f"unknown tp_plan {self.tp_plan!r}: known is auto")
        for name in ("device", "device_map", "quantization", "adapter"):
            if getattr(self, name) is not None:
                raise InputError(f"a tp_plan cannot be combined with {name}: leave one of them out")
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            raise InputError("a tp_plan needs several processes: start them with torchrun --nproc-per-node 2, or more")

    @property
    def torch_device(self) -> torch.device:
        """`device`, or the default device."""
        return _device(self.device)

    def torch_dtype(self) -> torch.dtype | str:
        """The type of the weights, or `"auto"` if the checkpoint decides; an `InputError` if `dtype` is unknown."""
        if self.dtype is None:
            return torch.float32 if self.torch_device.type == "cpu" else "auto"
        dtype = getattr(torch, self.dtype, None) if isinstance(self.dtype, str) else self.dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InputError(f"unknown dtype {self.dtype!r}: float32, bfloat16 and float16 are common")
        return dtype


def load_weights(
    name: str, source: str, revision: str | None, placement: Placement, packed: bool = False
) -> PreTrainedModel:
    """The frozen model of the checkpoint `source` (folder or hub id).

    `name` is the user's name for it, for errors; `packed` is the result of `check_packed`.

    Raises:
        InputError: If the weights are no safetensors, cannot be loaded, or some are missing.
    """
    hf = _pretrained(name, source, revision, placement, packed)
    if placement.adapter is not None:
        _adapt(hf, placement.adapter)
    if placement.tp_plan is not None and not is_spread(hf):
        raise InputError(f"transformers has no plan to spread {name!r} over processes: leave tp_plan out")
    if not (hasattr(hf, "hf_device_map") or getattr(hf, "is_quantized", False) or placement.tp_plan):
        hf.to(placement.torch_device)
    _unpack(hf)
    note_packed(hf)
    return hf.eval().requires_grad_(False)


def check_packed(name: str, config: Any, placement: Placement) -> bool:
    """Whether the configuration declares a quantized checkpoint; if so, check that it can be loaded.

    Raises:
        InputError: If a package is missing, transformers does not know the method, or it would be quantized twice.
    """
    text = config.get_text_config(decoder=True)
    scheme = getattr(config, "quantization_config", None) or getattr(text, "quantization_config", None)
    if scheme is None:
        return False
    method, settings = quantization_settings(scheme)
    if placement.quantization is not None or placement.tp_plan is not None:
        option = "quantization" if placement.quantization is not None else "tp_plan"
        raise InputError(f"the checkpoint {name!r} is quantized already, by {method}: leave {option} out")
    missing = [package for package in (*NEEDED.get(method, ()), "accelerate") if not _is_installed(package)]
    if missing:
        raise InputError(f"the checkpoint {name!r} is quantized by {method}: pip install {' '.join(missing)}")
    try:
        known = AutoHfQuantizer.supports_quant_method(settings)
    except ValueError as error:
        raise InputError(f"cannot load {name!r}: {first_line(error)}") from error
    if not known:  # transformers would only warn, and read the packed numbers as weights
        raise InputError(f"the checkpoint {name!r} is quantized by {method}, which transformers does not know")
    return True


def check_heads(name: str, config: Any, placement: Placement) -> None:
    """Raise an `InputError` if the processes of a tensor-parallel model cannot share the attention heads evenly."""
    if placement.tp_plan is None:
        return
    text, processes = config.get_text_config(decoder=True), int(os.environ["WORLD_SIZE"])
    for kind in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(text, kind, None) or processes
        if heads % processes:
            raise InputError(f"{name!r} has {kind} {heads}: {processes} processes cannot share them evenly")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(_MODULES.get(package, package)) is not None
    except ModuleNotFoundError:  # the parent package of the module is missing
        return False


def _pretrained(name: str, source: str, revision: str | None, placement: Placement, packed: bool) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": placement.torch_dtype()}
    if placement.quantization is not None:
        options["quantization_config"] = _recipe(placement)
    if placement.tp_plan is not None:
        options["distributed_config"] = _spreading(placement.tp_plan)
    elif placement.device_map is not None:
        options["device_map"] = placement.device_map
    elif packed or placement.quantization is not None:  # these weights cannot be moved later
        options["device_map"] = {"": placement.torch_device}
    try:
        hf, info = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"cannot load the weights of {name!r}: {first_line(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        if not packed:
            raise
        raise InputError(f"cannot read the quantization of {name!r}: {first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills these with random numbers and only warns.
        raise InputError(f"the checkpoint {name!r} lacks {len(missing)} weights, such as {missing[0]}")
    return hf


def _unpack(hf: PreTrainedModel) -> None:
    """Decompress now; otherwise compressed-tensors changes its weights in the first pass."""
    if hasattr(hf, "ct_decompress_hook"):
        hf.hf_quantizer.compressor.decompress_model(hf)


def _spreading(plan: TensorParallel) -> Any:
    try:
        from torch.distributed.tensor import distribute_tensor
        from transformers.distributed.configuration_utils import DistributedConfig

        if "src_data_rank" not in inspect.signature(distribute_tensor).parameters:
            raise InputError("this torch cannot spread a model over processes: 2.13 was tried")
        return DistributedConfig(tp_plan=plan)
    except (ImportError, TypeError) as error:
        raise InputError("this transformers cannot spread a model over processes: 5.23 was tried") from error


def _recipe(placement: Placement) -> BitsAndBytesConfig:
    if placement.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    dtype = placement.torch_dtype()
    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _adapt(hf: PreTrainedModel, adapter: str) -> None:
    """Load a PEFT adapter into a model, from safetensors alone, because peft would also read pickles."""
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        folder = _fetched(adapter)
    missing = [file for file in ADAPTER_FILES if not (folder / file).is_file()]
    if missing:
        raise InputError(f"{adapter}: not an adapter, {missing[0]} is missing")
    try:
        hf.load_adapter(str(folder))
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise InputError(f"cannot load the adapter {adapter!r}: {first_line(error)}") from error


def _fetched(adapter: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(adapter, allow_patterns=list(ADAPTER_FILES)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{adapter}: neither a folder nor a readable repository of the hub") from error


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {device}: torch sees {torch.cuda.device_count()} CUDA devices here")
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error message of another package."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
