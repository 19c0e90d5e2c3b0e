"""What is trained, borrowed from a model that gets back bit for bit what it had."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.methods.extra import training_package
from mllmeraser.methods.settings import LoraSettings
from mllmeraser.samples.errors import InputError

ADAPTER = "default"


@dataclass(frozen=True)
class Trainable:
    """Parameters open for training.

    Attributes:
        parameters: By name: of the model, or `layer.lora_A` and `layer.lora_B`.
        reference: Gives a context in which the model is the original one, in evaluation mode.
    """

    parameters: Mapping[str, nn.Parameter]
    reference: Callable[[], AbstractContextManager[None]]


@contextmanager
def borrowed(hf: nn.Module) -> Iterator[None]:
    """Give modes, gradients, buffers and `requires_grad` back as they were; nothing asks for a gradient inside."""
    modes = {module: module.training for module in hf.modules()}
    held = [(one, one.requires_grad, one.grad) for one in hf.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in hf.buffers()]
    try:
        for parameter, _, _ in held:
            parameter.requires_grad_(False)
            parameter.grad = None
        yield
    finally:
        for parameter, asks, grad in held:
            parameter.requires_grad_(asks)
            parameter.grad = grad
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, values in buffers:
                if not torch.equal(buffer, values):
                    buffer.copy_(values)


@contextmanager
def whole_weights(hf: nn.Module, names: str | list[str] | None = None) -> Iterator[Trainable]:
    """Open parameters themselves: a regular expression, a list of names, or None for all.

    The originals stay in memory beside the copies that are trained.

    Raises:
        InputError: If nothing matches.
    """
    chosen = {name: one for name, one in hf.named_parameters() if _wanted(name, names) and one.is_floating_point()}
    if not chosen:
        raise InputError(f"no parameter of the model matches {names!r}: nothing would be trained")
    originals = {name: parameter.data for name, parameter in chosen.items()}

    @contextmanager
    def reference() -> Iterator[None]:
        trained = {name: parameter.data for name, parameter in chosen.items()}
        with _evaluating(hf):
            try:
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
    """Put PEFT's low-rank adapters into the model, and take every one of its modules out again.

    Raises:
        InputError: If no linear layer matches, or PEFT is missing.
    """
    peft = training_package("peft")
    names = linear_layers(hf, settings.targets)
    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=names, bias="none"
    )

    @contextmanager
    def reference() -> Iterator[None]:
        tuners = _tuners(hf)
        with _evaluating(hf):
            try:
                for tuner in tuners.values():
                    tuner.enable_adapters(False)
                yield
            finally:
                for tuner in tuners.values():
                    tuner.enable_adapters(True)

    with borrowed(hf):
        try:
            with torch.random.fork_rng(devices=cuda_devices(hf)):
                torch.manual_seed(seed)
                peft.inject_adapter_in_model(config, hf, adapter_name=ADAPTER)
            tuners = _tuners(hf)
            if set(tuners) != set(names):
                raise InputError(f"PEFT adapted {len(tuners)} layers where {len(names)} were asked for")
            parameters = {}
            for name in names:
                parameters[f"{name}.lora_A"] = tuners[name].lora_A[ADAPTER].weight
                parameters[f"{name}.lora_B"] = tuners[name].lora_B[ADAPTER].weight
            yield Trainable(parameters, reference)
        finally:
            _remove(hf)


def linear_layers(hf: nn.Module, targets: str | None = None) -> list[str]:
    """Names of the linear layers that get an adapter: all but the output head, or those that match.

    Raises:
        InputError: If there is none.
    """
    find_head = getattr(hf, "get_output_embeddings", None)
    head = find_head() if callable(find_head) else None
    linear = [name for name, one in hf.named_modules() if isinstance(one, nn.Linear) and one is not head]
    found = [name for name in linear if targets is None or re.search(targets, name)]
    if not found:
        raise InputError(f"no linear layer of the model matches {targets!r}: nothing would be trained")
    return found


def moved(trainable: Trainable) -> dict[str, Tensor]:
    """Copies on the CPU of the parameters whose values are not those of the model any more.

    For adapters there is nothing to compare with; those whose B is zero do nothing, but come along.
    """
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
def _evaluating(hf: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in hf.modules()}
    hf.eval()
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
    """Devices of the model, besides the CPU, that have a random state of their own."""
    return sorted({one.device for one in hf.parameters() if one.device.type == "cuda"}, key=str)
