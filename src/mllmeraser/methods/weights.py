"""WeightProduct: changed parameters that replace the model's own until detach."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from mllmeraser.methods.product import Product, mark_changed
from mllmeraser.models.intervention import Attachment
from mllmeraser.samples.errors import AttachError


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
            undo.callback(mark_changed, hf, None)
            mark_changed(hf, self.config.method)
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
