"""The weights of a checkpoint: in which numbers, on which devices, with which adapter."""

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

from mllmeraser.models.fingerprint import is_spread, note_packed
from mllmeraser.samples.errors import InputError

Quantisation = Literal["int8", "nf4"]
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
"""Packages that transformers reads a quantised checkpoint with, by its method; all of them take accelerate too."""
_MODULES = {"compressed-tensors": "compressed_tensors", "optimum-quanto": "optimum.quanto", "optimum": "optimum.gptq"}


@dataclass(frozen=True)
class Placement:
    """How weights are loaded.

    Attributes:
        dtype: Type of the weights, as a torch dtype or its name; None: float32 on a CPU, what the checkpoint states on
            an accelerator.
        device: Where they go; None: the first CUDA device if there is one, else the CPU.
        device_map: How accelerate spreads them over devices, CPU memory and disk: `"auto"`, or a mapping of modules.
        quantisation: `"int8"` or `"nf4"` (4 bit) by bitsandbytes; None: as the checkpoint is.
        adapter: Folder or hub id of a PEFT adapter that is put on the weights.
        tp_plan: `"auto"`: every process of a `torchrun` holds its share of each block, as transformers deals them out.
    """

    dtype: torch.dtype | str | None = None
    device: torch.device | str | None = None
    device_map: str | dict[str, Any] | None = None
    quantisation: Quantisation | None = None
    adapter: str | None = None
    tp_plan: TensorParallel | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together.

        Raises:
            InputError: If a value is unknown, two contradict each other, or a package is missing.
        """
        if self.device is not None and self.device_map is not None:
            raise InputError("give a device, or a device_map that spreads the model, not both")
        if self.quantisation is not None and self.quantisation not in get_args(Quantisation):
            raise InputError(
                f"unknown quantisation {self.quantisation!r}: known are {', '.join(get_args(Quantisation))}"
            )
        _device(self.device)
        self.torch_dtype()
        self._check_parallel()
        for wanted, package, extra in (
            (self.quantisation, "bitsandbytes", "quantised"),
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
        for name in ("device", "device_map", "quantisation", "adapter"):
            if getattr(self, name) is not None:
                raise InputError(f"a tp_plan does not go together with {name}: leave one of them out")
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            raise InputError("a tp_plan takes several processes: start them with torchrun --nproc-per-node 2, or more")

    @property
    def torch_device(self) -> torch.device:
        """The device, chosen."""
        return _device(self.device)

    def torch_dtype(self) -> torch.dtype | str:
        """The type, chosen: `"auto"` where the checkpoint decides.

        Raises:
            InputError: If it is no type of weights.
        """
        if self.dtype is None:
            return torch.float32 if self.torch_device.type == "cpu" else "auto"
        found = getattr(torch, self.dtype, None) if isinstance(self.dtype, str) else self.dtype
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise InputError(f"unknown dtype {self.dtype!r}: float32, bfloat16 and float16 are common")
        return found


def load_weights(
    name: str, source: str, revision: str | None, placement: Placement, packed: bool = False
) -> PreTrainedModel:
    """The model of a checkpoint, frozen, where and as `placement` says.

    Args:
        name: What the user called it, for errors.
        source: Folder or hub id.
        revision: Of a hub id.
        placement: How.
        packed: Whether the checkpoint is quantised, see `check_packed`.

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
    """Whether a checkpoint is quantised, by its configuration; then it has to be one that can be loaded as asked.

    Raises:
        InputError: If a package is missing, transformers does not know the method, or it would be quantised twice.
    """
    text = config.get_text_config(decoder=True)
    found = getattr(config, "quantization_config", None) or getattr(text, "quantization_config", None)
    if found is None:
        return False
    settings = found if isinstance(found, dict) else found.to_dict()
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))
    if placement.quantisation is not None or placement.tp_plan is not None:
        asked = "quantisation" if placement.quantisation is not None else "tp_plan"
        raise InputError(f"the checkpoint {name!r} is quantised already, by {method}: leave {asked} out")
    missing = [package for package in (*NEEDED.get(method, ()), "accelerate") if not _is_there(package)]
    if missing:
        raise InputError(f"the checkpoint {name!r} is quantised by {method}: pip install {' '.join(missing)}")
    try:
        known = AutoHfQuantizer.supports_quant_method(settings)
    except ValueError as error:
        raise InputError(f"cannot load {name!r}: {first_line(error)}") from error
    if not known:  # transformers would warn, and take the packed numbers for weights
        raise InputError(f"the checkpoint {name!r} is quantised by {method}, which transformers does not know")
    return True


def check_heads(name: str, config: Any, placement: Placement) -> None:
    """Make sure that every process of a tensor-parallel model gets whole attention heads.

    Raises:
        InputError: If they cannot be dealt out evenly.
    """
    if placement.tp_plan is None:
        return
    text, processes = config.get_text_config(decoder=True), int(os.environ["WORLD_SIZE"])
    for kind in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(text, kind, None) or processes
        if heads % processes:
            raise InputError(f"{name!r} has {kind} {heads}: they cannot be dealt out evenly to {processes} processes")


def _is_there(package: str) -> bool:
    module = _MODULES.get(package, package)
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package that the module would lie in
        return False


def _pretrained(name: str, source: str, revision: str | None, placement: Placement, packed: bool) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": placement.torch_dtype()}
    if placement.quantisation is not None:
        options["quantization_config"] = _recipe(placement)
    if placement.tp_plan is not None:
        options["distributed_config"] = _spreading(placement.tp_plan)
    elif placement.device_map is not None:
        options["device_map"] = placement.device_map
    elif packed or placement.quantisation is not None:  # which cannot be moved afterwards
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
        raise InputError(f"cannot read how {name!r} is quantised: {first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills these with random numbers and only warns.
        raise InputError(f"the checkpoint {name!r} lacks {len(missing)} weights, such as {missing[0]}")
    return hf


def _unpack(hf: PreTrainedModel) -> None:
    """What compressed-tensors does in the first pass, done before it: its weights are then what they stay."""
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
    if placement.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    dtype = placement.torch_dtype()
    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _adapt(hf: PreTrainedModel, adapter: str) -> None:
    """Put a PEFT adapter on a model; from safetensors alone, for peft would also read pickles."""
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
        raise InputError(f"{adapter}: neither a folder nor a repository of the hub that can be read") from error


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}") from error


def first_line(error: BaseException) -> str:
    """What an error of another package says, in one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
