"""The HookPoint: the one type that says which tensor is read and edited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mllmeraser.samples.errors import InputError


@dataclass(frozen=True, order=True)
class HookPoint:
    """The residual stream *after* decoder block `layer` (0-based).

    Capture, fit and apply all name their tensor with it, so that what is edited is what was measured (the
    published code fits on a block's input and steers its output). A state of every prompt token there is
    a vector of the width of the language model.
    """

    layer: int

    def __post_init__(self) -> None:
        """Refuse negative and fractional layers.

        Raises:
            InputError: If `layer` is not a whole number of at least 0.
        """
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise InputError(f"a layer is a whole number from 0 upwards, not {self.layer!r}")

    def check(self, num_layers: int) -> HookPoint:
        """Return this hook point if a decoder of `num_layers` blocks has it.

        Raises:
            InputError: If the layer is beyond the last block.
        """
        if self.layer >= num_layers:
            raise InputError(f"layer {self.layer} does not exist: the model has layers 0 to {num_layers - 1}")
        return self


def hookpoints(layers: Iterable[int], num_layers: int) -> tuple[HookPoint, ...]:
    """Sorted hook points of `layers`, each once, each checked against the depth of the decoder.

    Raises:
        InputError: If a layer does not exist in a decoder of `num_layers` blocks.
    """
    return tuple(HookPoint(layer).check(num_layers) for layer in sorted(set(layers)))
