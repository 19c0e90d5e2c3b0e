"""States at HookPoints, read while a model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
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


Reducer = Callable[[Tensor], Tensor]
"""Takes the states (batch, length, d) after one block and returns the part that is kept."""


@torch.no_grad()
def run_batch(
    hf: nn.Module, layers: nn.ModuleList, batch: Mapping[str, Any], reducers: Sequence[tuple[int, Reducer]]
) -> list[Tensor]:
    """Run one encoded batch and return the result of each (layer, reducer), on the CPU, in the model's dtype.

    The pass ends after the last of these layers: later blocks do not run. Results include the changes of interventions
    attached earlier.

    Raises:
        InputError: A block did not run.
        NumericalError: A result is NaN or infinite.
    """
    kept: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for number, (layer, reduce) in enumerate(reducers):
            hooks.enter_context(layers[layer].register_forward_hook(partial(_keep, kept, number, reduce)))
        hooks.enter_context(layers[max(layer for layer, _ in reducers)].register_forward_hook(_stop))
        with suppress(_EndOfPass):
            hf(**batch, use_cache=False, logits_to_keep=1)
    missing = [layer for number, (layer, _) in enumerate(reducers) if number not in kept]
    if missing:
        raise InputError(f"block {missing[0]} did not run")
    return [require_finite(kept[n], f"states after layer {layer}").cpu() for n, (layer, _) in enumerate(reducers)]


def _keep(kept: dict[int, Tensor], number: int, reduce: Reducer, _block: object, _args: object, output: object) -> None:
    kept[number] = reduce(hidden_of(output)).detach()


class _EndOfPass(Exception):  # noqa: N818
    """Raised after the last layer that is read; `run_batch` catches it."""


def _stop(_block: object, _args: object, _output: object) -> None:
    raise _EndOfPass


def at_last_token(batch: Mapping[str, Any]) -> Reducer:
    """A reducer that keeps the states (b, d) at the last real token of each row."""
    last = last_token(batch)
    rows = torch.arange(len(last), device=last.device)
    return lambda states: states[rows.to(states.device), last.to(states.device)]


def last_states(hf: nn.Module, layers: nn.ModuleList, batch: Mapping[str, Any], points: Sequence[HookPoint]) -> Tensor:
    """States (b, points, d) at the last real token of each row, on the CPU; see `run_batch`."""
    reduce = at_last_token(batch)
    return torch.stack(run_batch(hf, layers, batch, [(p.check(len(layers)).layer, reduce) for p in points]), 1)


def require_finite(states: Tensor, what: str) -> Tensor:
    """Return `states`; `what` names them in the error message.

    Raises:
        NumericalError: An entry is NaN or infinite.
    """
    if not bool(torch.isfinite(states).all()):
        raise NumericalError(f"{what} contain NaN or infinite values: run the model in float32 or bfloat16")
    return states
