"""Opening parameters of a model for training, and restoring the model bit for bit."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.methods.settings import LoraSettings
from mllmeraser.samples.errors import InputError

ADAPTER = "default"


def training_package(name: str) -> Any:
    """Import `peft` or `accelerate`; an InputError with the command to install it if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"training needs {name}, which is missing: pip install 'mllmeraser[train]'") from error


@dataclass(frozen=True)
class Trainable:
    """Parameters open for training.

    Attributes:
        parameters: By their names in the model, or `layer.lora_A` and `layer.lora_B`.
        reference: Returns a context with the original model in evaluation mode.
    """

    parameters: Mapping[str, nn.Parameter]
    reference: Callable[[], AbstractContextManager[None]]


@contextmanager
def borrowed(hf: nn.Module) -> Iterator[None]:
    """Turn `requires_grad` off; restore modes, gradients, buffers and `requires_grad` afterwards."""
    held = [(one, one.requires_grad, one.grad) for one in hf.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in hf.buffers()]
    with _same_modes(hf):
        try:
            for parameter, _, _ in held:
                parameter.requires_grad_(False)
                parameter.grad = None
            yield
        finally:
            for parameter, required, grad in held:
                parameter.requires_grad_(required)
                parameter.grad = grad
            with torch.no_grad():
                for buffer, values in buffers:
                    if not torch.equal(buffer, values):
                        buffer.copy_(values)


@contextmanager
def whole_weights(hf: nn.Module, names: str | list[str] | None = None) -> Iterator[Trainable]:
    """Open the parameters that match a regular expression, have one of some names, or (None) all.

    The originals stay in memory beside the trained copies. It is an InputError if nothing matches.
    """
    chosen = {name: one for name, one in hf.named_parameters() if _wanted(name, names) and one.is_floating_point()}
    if not chosen:
        raise InputError(f"no parameter of the model matches {names!r}: nothing would be trained")
    originals = {name: parameter.data for name, parameter in chosen.items()}

    @contextmanager
    def reference() -> Iterator[None]:
        trained = {name: parameter.data for name, parameter in chosen.items()}
        with _same_modes(hf):
            try:
                hf.eval()
                _point(chosen, originals)
                yield
            finally:
                _point(chosen, trained)

    with borrowed(hf):
        try:
            for parameter in chosen.values():
                parameter.data = parameter.data.clone()
                parameter.requires_grad_(True)
            yield Trainable(chosen, reference)
        finally:
            _point(chosen, originals)


@contextmanager
def adapters(hf: nn.Module, settings: LoraSettings, seed: int) -> Iterator[Trainable]:
    """Insert PEFT's low-rank adapters into the model; remove all of PEFT's modules afterwards."""
    peft = training_package("peft")
    names = linear_layers(hf, settings.targets)
    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=names, bias="none"
    )

    def enable(on: bool) -> None:
        for tuner in _tuners(hf).values():
            tuner.enable_adapters(on)

    @contextmanager
    def reference() -> Iterator[None]:
        with _same_modes(hf):
            try:
                hf.eval()
                enable(False)
                yield
            finally:
                enable(True)

    with borrowed(hf):
        try:
            with torch.random.fork_rng(devices=cuda_devices(hf)):
                torch.manual_seed(seed)
                peft.inject_adapter_in_model(config, hf, adapter_name=ADAPTER)
            tuners = _tuners(hf)
            if set(tuners) != set(names):
                raise InputError(f"PEFT adapted {len(tuners)} layers where {len(names)} were asked for")
            sides = [(name, side) for name in names for side in ("lora_A", "lora_B")]
            parameters = {f"{name}.{side}": getattr(tuners[name], side)[ADAPTER].weight for name, side in sides}
            yield Trainable(parameters, reference)
        finally:
            _remove(hf)


def linear_layers(hf: nn.Module, targets: str | None = None) -> list[str]:
    """Names of the linear layers that match (None: all), except the output head; an InputError if there are none."""
    find_head = getattr(hf, "get_output_embeddings", None)
    head = find_head() if callable(find_head) else None
    linear = [name for name, one in hf.named_modules() if isinstance(one, nn.Linear) and one is not head]
    names = [name for name in linear if _wanted(name, targets)]
    if not names:
        raise InputError(f"no linear layer of the model matches {targets!r}: nothing would be trained")
    return names


def moved(trainable: Trainable) -> dict[str, Tensor]:
    """Copies on the CPU of the parameters that differ from those of the original model."""
    now = {name: parameter.detach() for name, parameter in trainable.parameters.items()}
    with trainable.reference():
        before = {name: parameter.detach() for name, parameter in trainable.parameters.items()}
    return {name: value.cpu().clone() for name, value in now.items() if not torch.equal(value, before[name])}


def _wanted(name: str, names: str | list[str] | None) -> bool:
    if names is None:
        return True
    return bool(re.search(names, name)) if isinstance(names, str) else name in names


def _point(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.data = values[name]


@contextmanager
def _same_modes(hf: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in hf.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _tuners(hf: nn.Module) -> dict[str, Any]:
    layer_kind = training_package("peft.tuners.tuners_utils").BaseTunerLayer
    return {name: module for name, module in hf.named_modules() if isinstance(module, layer_kind)}


def _remove(hf: nn.Module) -> None:
    for name, tuner in _tuners(hf).items():
        above, _, own = name.rpartition(".")
        hf.get_submodule(above)._modules[own] = tuner.base_layer
    hf.__dict__.pop("peft_config", None)


def cuda_devices(hf: nn.Module) -> list[torch.device]:
    """CUDA devices of the model, each of which has its own random state."""
    return sorted({one.device for one in hf.parameters() if one.device.type == "cuda"}, key=str)
