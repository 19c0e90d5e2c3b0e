"""The reading pass: the decoder runs once more, each turn by itself, for the gates alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mllmeraser.erasure.steering.conversation.isolation import isolating
from mllmeraser.erasure.steering.conversation.reading import TurnReading
from mllmeraser.samples.errors import AttachError


class Reads(Protocol):
    """A pass over a prompt, such as `SteeringPass`."""

    turn_reading: TurnReading | None

    def visible_turns(self) -> Tensor:
        """See `visible`."""

    def read_turns(self, layer: int, states: Tensor) -> None:
        """Read the states (rows, length, d) after a block."""


class TurnPass:
    """Runs the decoder over single turns, as far as the last layer that is read."""

    def __init__(self, hf: nn.Module, attention: str) -> None:
        """Prepare for `hf`, which computes `attention` in this way (transformers' name)."""
        self._hf, self._attention = hf, attention
        self.running = False

    def run(self, current: Reads, decoder: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Run `decoder` with the arguments of its own pass, but for the mask and the cache."""
        if "flash" in self._attention:
            raise AttachError("a conversation of several turns cannot be read with flash attention: attend with 'sdpa'")
        dtype, eager = next(self._hf.parameters()).dtype, self._attention == "eager"
        mask = isolating(kwargs.get("attention_mask"), current.visible_turns(), dtype, eager=eager)
        self.running = True
        try:
            with suppress(_AllRead):
                decoder(*args, **{**kwargs, "attention_mask": mask, "past_key_values": None, "use_cache": False})
        finally:
            self.running = False

    def after_block(self, current: Reads, layer: int, states: Tensor) -> None:
        """Read the states after a block; none of them changes."""
        assert current.turn_reading is not None
        current.read_turns(layer, states)
        if layer == current.turn_reading.last_layer and not torch.compiler.is_compiling():
            raise _AllRead


class _AllRead(Exception):  # noqa: N818
    """Ends the pass after the last layer that is read."""
