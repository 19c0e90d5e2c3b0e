"""WeightProduct: changed parameters, swapped in and back."""

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
    """The parameters that moved, whole, under their names in the model.

    Attaching lets each parameter point at the changed values; the original storage is kept aside and put
    back, so that nothing is rounded. One such product at a time: the next one was made for other weights.
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
                undo.callback(partial(_point, parameters[name], parameters[name].data))
                _point(parameters[name], tensor.to(parameters[name], copy=True))
            return Attachment(undo.pop_all().close, [self.config.method])


def _point(parameter: nn.Parameter, values: Tensor) -> None:
    parameter.data = values


def _check_parameter(name: str, parameter: nn.Parameter | None, tensor: Tensor) -> None:
    if parameter is None:
        raise AttachError(f"the model has no parameter {name}: these weights were made for another one")
    if parameter.shape != tensor.shape or parameter.dtype != tensor.dtype:
        raise AttachError(
            f"{name} is {tuple(tensor.shape)} {tensor.dtype} here and {tuple(parameter.shape)} {parameter.dtype} "
            "in the model: these weights were made for another one"
        )
