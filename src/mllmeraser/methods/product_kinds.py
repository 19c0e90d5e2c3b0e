"""The two kinds of product: low-rank adapters, applied by hooks, and changed weights."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mllmeraser.methods.product import CHANGED, Product, read_config
from mllmeraser.models.intervention import Attachment
from mllmeraser.samples.errors import ArtifactError, AttachError

PREFIX = "base_model.model."  # PEFT's prefix of module names
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, eq=False)
class AdapterProduct(Product):
    """W x + (alpha / rank) B A x on linear layers. The weights and modules of the model do not change.

    `tensors` holds A (rank, inputs) and B (outputs, rank) of every adapted layer under PEFT's names.
    `peft.PeftModel.from_pretrained` reads the saved folder.
    """

    kind: ClassVar[str] = "adapter"
    tensor_file: ClassVar[str] = "adapter_model.safetensors"

    def __post_init__(self) -> None:
        """Refuse adapters that are not pairs of matrices of one rank."""
        super().__post_init__()
        if self.config.rank is None or self.config.alpha is None:
            raise ArtifactError("the manifest of an adapter needs rank and alpha")
        for name, (down, up) in self.pairs().items():
            if down.dim() != 2 or up.dim() != 2 or down.shape[0] != self.config.rank or up.shape[1] != down.shape[0]:
                raise ArtifactError(f"the adapter of {name} is not of rank {self.config.rank}")

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Layer -> (A, B); an ArtifactError if a tensor has another name, or one of a pair is missing."""
        names = {name.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP) for name in self.tensors}
        expected = {f"{PREFIX}{name}{part}" for name in names for part in (DOWN, UP)}
        if expected != set(self.tensors):
            odd = sorted(expected ^ set(self.tensors))[0]
            raise ArtifactError(f"the adapters are incomplete: {odd} is missing or out of place")
        return {name: (self.tensors[PREFIX + name + DOWN], self.tensors[PREFIX + name + UP]) for name in sorted(names)}

    def attach(self, model: Any) -> Attachment:
        """See `Product.attach`. Several adapters may be attached at once, and detached in any order."""
        hf = self.base(model)
        pairs, modules = self.pairs(), dict(hf.named_modules())
        for name, (down, up) in pairs.items():
            _check_layer(name, modules.get(name), down, up)
        scale = float(self.config.alpha or 0.0) / int(self.config.rank or 1)
        with ExitStack() as undo:
            for name, (down, up) in pairs.items():
                hook = _LowRank(modules[name], down, up, scale)
                undo.callback(modules[name].register_forward_hook(hook, with_kwargs=True).remove)
            return Attachment(undo.pop_all().close, [self.config.method])

    def more_files(self) -> dict[str, str]:
        """`adapter_config.json`, which PEFT needs."""
        content = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": self.config.base_model,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "lora_dropout": 0.0,
            "target_modules": list(self.pairs()),
            "bias": "none",
            "inference_mode": True,
        }
        return {"adapter_config.json": json.dumps(content, indent=2) + "\n"}


class _LowRank:
    """Forward hook of one linear layer."""

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor, scale: float) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        self.down, self.up, self.scale = down.to(weight), up.to(weight), scale

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        inputs = args[0] if args else kwargs["input"]
        return output + F.linear(F.linear(inputs, self.down), self.up) * self.scale


def _check_layer(name: str, layer: nn.Module | None, down: Tensor, up: Tensor) -> None:
    if layer is None:
        raise AttachError(f"the model has no layer {name}: this adapter belongs to another model")
    if not isinstance(layer, nn.Linear):
        raise AttachError(f"{name} is a {type(layer).__name__}: an adapter fits a linear layer only")
    shape = (up.shape[0], down.shape[1])
    if shape != tuple(layer.weight.shape):
        raise AttachError(f"the adapter of {name} fits a weight of shape {shape}, not {tuple(layer.weight.shape)}")


@dataclass(frozen=True, eq=False)
class WeightProduct(Product):
    """The parameters that moved, under their names in the model.

    Attaching points each parameter at its changed values. Detaching restores the original storage, so nothing is
    rounded. Only one such product fits at a time.
    """

    kind: ClassVar[str] = "weights"
    tensor_file: ClassVar[str] = "weights.safetensors"

    def attach(self, model: Any) -> Attachment:
        """See `Product.attach`."""
        hf = self.base(model)
        parameters = dict(hf.named_parameters())
        for name, tensor in self.tensors.items():
            _check_parameter(name, parameters.get(name), tensor)
        with ExitStack() as undo:
            undo.callback(CHANGED.pop, hf, None)
            CHANGED[hf] = self.config.method
            for name, tensor in self.tensors.items():
                undo.callback(partial(setattr, parameters[name], "data", parameters[name].data))
                parameters[name].data = tensor.to(parameters[name], copy=True)
            return Attachment(undo.pop_all().close, [self.config.method])


def _check_parameter(name: str, parameter: nn.Parameter | None, tensor: Tensor) -> None:
    if parameter is None:
        raise AttachError(f"the model has no parameter {name}: these weights belong to another model")
    if parameter.shape != tensor.shape or parameter.dtype != tensor.dtype:
        raise AttachError(
            f"{name} is {tuple(tensor.shape)} {tensor.dtype} here and {tuple(parameter.shape)} {parameter.dtype} "
            "in the model: these weights belong to another model"
        )


def load_product(directory: str | os.PathLike[str]) -> Product:
    """Read adapters or weights; errors as `Product.from_pretrained`."""
    kind = read_config(directory).kind
    return (AdapterProduct if kind == "adapter" else WeightProduct).from_pretrained(directory)
