"""The HookPoint: the place of the tensor that a fit reads and an eraser edits."""

from __future__ import annotations

from dataclasses import dataclass

from mllmeraser.samples.errors import InputError


@dataclass(frozen=True, order=True)
class HookPoint:
    """The residual stream *after* decoder block `layer` (0-based).

    Capture, fit and steering share this type, so an eraser edits the tensor that the fit measured. (The published code
    fits on a block's input and steers its output.) The state of a token there has the width of the language model.
    """

    layer: int

    def __post_init__(self) -> None:
        """Raise an `InputError` if `layer` is not a whole number of at least 0."""
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise InputError(f"a layer is a whole number from 0 upwards, not {self.layer!r}")

    def check(self, num_layers: int) -> HookPoint:
        """Return this hook point, or raise an `InputError` if a decoder of `num_layers` blocks does not have it."""
        if self.layer >= num_layers:
            raise InputError(f"layer {self.layer} does not exist: the model has layers 0 to {num_layers - 1}")
        return self
