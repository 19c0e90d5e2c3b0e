"""Reading states at HookPoints while a model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import InputError, NumericalError


def hidden_of(output: Any) -> Tensor:
    """Residual stream `(batch, length, width)` in a block's output: the tensor, or a tuple's first item.

    Raises:
        InputError: If the block passes on something else, such as several states per token.
    """
    hidden = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(hidden, Tensor):
        raise TypeError(f"a decoder block gave {type(hidden).__name__} where its hidden states were expected")
    if hidden.dim() != 3:
        raise InputError(
            f"a decoder block gave states of shape {tuple(hidden.shape)}: only one state per token, (batch, length, "
            "width), can be read and moved"
        )
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """A block's output of the same form as `output`, holding `hidden` instead."""
    if isinstance(output, (tuple, list)):
        return type(output)([hidden, *output[1:]])
    return hidden


def last_real_index(attention_mask: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor:
    """Index `(batch,)` of the last real token of each row, whichever side is padded.

    Args:
        attention_mask: `(batch, length)`, 1 on real tokens; None means that nothing is padded (transformers
            leaves the mask out then).
        batch: Number of rows.
        length: Number of positions.
        device: Where the result lives.
    """
    if attention_mask is None:
        return torch.full((batch,), length - 1, dtype=torch.long, device=device)
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (attention_mask.ne(0).long() * positions).argmax(dim=-1).to(device)


@contextmanager
def capture(layers: nn.ModuleList, points: Sequence[HookPoint], index: Tensor) -> Iterator[dict[HookPoint, Tensor]]:
    """Record, while the context is open, the state of one position per row at every hook point.

    Args:
        layers: Decoder blocks.
        points: Where to read; each must exist.
        index: Position `(batch,)` to read in each row.

    Yields:
        A dictionary that each forward fills with `(batch, width)` tensors in the model's dtype, after
        whatever an intervention attached earlier did to them.

    Raises:
        InputError: If a hook point does not exist.
    """
    found: dict[HookPoint, Tensor] = {}
    handles = []
    try:
        for point in points:
            block = layers[point.check(len(layers)).layer]
            handles.append(block.register_forward_hook(_reader(point, index, found)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def check_finite(states: Tensor, point: HookPoint, rows: Sequence[int]) -> None:
    """Refuse states that are not numbers.

    Raises:
        NumericalError: Naming the layer and the first sample (by number) whose state is NaN or infinite.
    """
    bad = ~torch.isfinite(states).all(dim=-1)
    if bool(bad.any()):
        row = rows[int(bad.nonzero()[0, 0])]
        raise NumericalError(
            f"the state of sample {row} after layer {point.layer} is not finite; "
            "load the model in a wider dtype (float32 or bfloat16)"
        )


def _reader(point: HookPoint, index: Tensor, found: dict[HookPoint, Tensor]) -> Any:
    def read(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden = hidden_of(output)
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        found[point] = hidden[rows, index.to(hidden.device)].detach()

    return read
