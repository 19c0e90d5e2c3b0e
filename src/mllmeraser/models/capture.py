"""States at HookPoints, read while a model runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples.errors import InputError, NumericalError


def hidden_of(output: Any) -> Tensor:
    """Residual stream `(batch, length, width)` in a block's output: the tensor, or a tuple's first item.

    Raises:
        InputError: If the block has another output, such as several states per token.
    """
    hidden = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(hidden, Tensor):
        raise TypeError(f"a decoder block returned {type(hidden).__name__} instead of hidden states")
    if hidden.dim() != 3:
        raise InputError(
            f"a decoder block returned states of shape {tuple(hidden.shape)}: only one state per token, "
            "(batch, length, width), can be read and steered"
        )
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """A block's output of the same form as `output`, with `hidden` as its residual stream."""
    return type(output)([hidden, *output[1:]]) if isinstance(output, (tuple, list)) else hidden


def last_real_index(attention_mask: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor:
    """Index `(batch,)` of the last real token of each row, with padding on either side.

    `attention_mask` `(batch, length)` is 1 on real tokens, or None without padding (as in transformers).
    """
    if attention_mask is None:
        return torch.full((batch,), length - 1, dtype=torch.long, device=device)
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (attention_mask.ne(0).long() * positions).argmax(dim=-1).to(device)


def last_token(inputs: Mapping[str, Any]) -> Tensor:
    """Index `(batch,)` of the last real token of each row of encoded prompts."""
    ids = inputs["input_ids"]
    return last_real_index(inputs["attention_mask"], ids.shape[0], ids.shape[1], ids.device)


@contextmanager
def capture(layers: nn.ModuleList, points: Sequence[HookPoint], index: Tensor) -> Iterator[dict[HookPoint, Tensor]]:
    """Record the state at position `index` `(batch,)` of each row, at every hook point, while the context is open.

    Yields:
        A dictionary that each forward fills with `(batch, width)` tensors in the model's dtype. They include the
        changes of interventions attached earlier.

    Raises:
        InputError: If a hook point does not exist.
    """
    captured: dict[HookPoint, Tensor] = {}
    handles = []
    try:
        for point in points:
            block = layers[point.check(len(layers)).layer]
            handles.append(block.register_forward_hook(_reader(point, index, captured)))
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def check_finite(states: Tensor, point: HookPoint, rows: Sequence[int]) -> None:
    """Check that all states (rows, width) are finite.

    Raises:
        NumericalError: With the layer and the number of the first sample that has a NaN or infinite state.
    """
    bad = ~torch.isfinite(states).all(dim=-1)
    if bool(bad.any()):
        row = rows[int(bad.nonzero()[0, 0])]
        raise NumericalError(
            f"the state of sample {row} after layer {point.layer} is not finite; "
            "load the model in a wider dtype (float32 or bfloat16)"
        )


def _reader(point: HookPoint, index: Tensor, captured: dict[HookPoint, Tensor]) -> Any:
    def read(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden = hidden_of(output)
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        captured[point] = hidden[rows, index.to(hidden.device)].detach()

    return read
