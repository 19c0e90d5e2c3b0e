"""The weights of a checkpoint: in which numbers, on which devices, with which adapter."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel

from mllmeraser.samples.errors import InputError

Quantisation = Literal["int8", "nf4"]
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


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
    """

    dtype: torch.dtype | str | None = None
    device: torch.device | str | None = None
    device_map: str | dict[str, Any] | None = None
    quantisation: Quantisation | None = None
    adapter: str | None = None

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
        for wanted, package, extra in (
            (self.quantisation, "bitsandbytes", "quantised"),
            (self.device_map, "accelerate", "train"),
            (self.adapter, "peft", "train"),
        ):
            if wanted is not None and find_spec(package) is None:
                raise InputError(f"this needs {package}: pip install 'mllmeraser[{extra}]'")

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


def load_weights(name: str, source: str, revision: str | None, placement: Placement) -> PreTrainedModel:
    """The model of a checkpoint, frozen, where and as `placement` says.

    Args:
        name: What the user called it, for errors.
        source: Folder or hub id.
        revision: Of a hub id.
        placement: How.

    Raises:
        InputError: If the weights are no safetensors, cannot be loaded, or some are missing.
    """
    hf = _pretrained(name, source, revision, placement)
    if placement.adapter is not None:
        _adapt(hf, placement.adapter)
    if not hasattr(hf, "hf_device_map") and not getattr(hf, "is_quantized", False):
        hf.to(placement.torch_device)
    return hf.eval().requires_grad_(False)


def _pretrained(name: str, source: str, revision: str | None, placement: Placement) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": placement.torch_dtype()}
    if placement.quantisation is not None:
        options["quantization_config"] = _recipe(placement)
        options["device_map"] = placement.device_map or {"": placement.torch_device}
    elif placement.device_map is not None:
        options["device_map"] = placement.device_map
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
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills these with random numbers and only warns.
        raise InputError(f"the checkpoint {name!r} lacks {len(missing)} weights, such as {missing[0]}")
    return hf


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
