"""Positions of the real prompt tokens in one forward pass, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mllmeraser.erasure.steering.prompt_tracker import Span, tokens_of
from mllmeraser.samples.errors import AttachError


@dataclass(frozen=True)
class PromptSites:
    """Prompt positions of a pass, on the device of the input.

    Attributes:
        prompt: (rows, length) bool, real prompt tokens.
        index: (rows,) position within the pass of the last real prompt token; arbitrary where `found` is false.
        found: (rows,) bool, whether it is in this pass.
        complete: Whether all of every prompt is known to be in this pass.
    """

    prompt: Tensor
    index: Tensor
    found: Tensor
    complete: bool = False


def prompt_sites(span: Span, inputs: Mapping[str, Any], prompt_mask: Tensor | None) -> PromptSites:
    """Prompt positions of a pass; `prompt_mask` covers the whole prompt (requests, columns), if it is known before."""
    mask = _mask(span, inputs, prompt_mask)
    device = tokens_of(inputs).device
    if span.start == 0 and set(span.ends) == {span.stop}:
        return _whole(span, mask, device)
    ends = torch.tensor(span.ends, device=device)
    columns = torch.arange(max(span.stop, max(span.ends)), device=device)
    prompt = columns < ends[:, None]
    if mask is not None:
        real = mask.to(device=device, dtype=torch.bool)[:, : columns.numel()]
        prompt = prompt & pad(real, (0, columns.numel() - real.shape[1]))
    last = torch.where(prompt, columns, -1).amax(1)
    if mask is not None and mask.shape[1] < max(span.ends):
        # The mask of a piece does not cover the columns after it.
        last = torch.where(ends <= span.stop, last, -1)
    if span.start > 0 and mask is not None:
        # Earlier pieces were read at their last real token only if the mask of all pieces was known then.
        _refuse_unseen(span, last, ends, span.start if prompt_mask is None else span.origin)
    found = (last >= span.start) & (last < span.stop)
    return PromptSites(
        prompt=prompt[:, span.start : span.stop], index=(last - span.start).clamp(0, span.length - 1), found=found
    )


def _whole(span: Span, mask: Tensor | None, device: torch.device) -> PromptSites:
    """Positions of prompts that fill the whole pass, as nearly all do."""
    if mask is None:
        prompt = torch.ones(span.rows, span.stop, dtype=torch.bool, device=device)
    else:
        prompt = mask[:, : span.stop].to(device=device, dtype=torch.bool)
    columns = torch.arange(span.stop, device=device)
    index = (prompt * columns).argmax(1)
    return PromptSites(prompt, index, prompt.any(1), complete=True)


def _mask(span: Span, inputs: Mapping[str, Any], prompt_mask: Tensor | None) -> Tensor | None:
    """(rows, columns) mask of the real prompt tokens; None if all are real."""
    if prompt_mask is not None:
        if span.rows % prompt_mask.shape[0]:
            raise AttachError(f"the prompt's mask has {prompt_mask.shape[0]} rows, the batch {span.rows}")
        return prompt_mask.repeat_interleave(span.rows // prompt_mask.shape[0], dim=0)
    mask = inputs.get("attention_mask")
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise AttachError("cannot read a prepared mask: pass the two-dimensional attention_mask")
    if mask.shape[0] != span.rows or mask.shape[1] < span.stop:
        raise AttachError(f"the attention mask {tuple(mask.shape)} does not cover the batch ({span.rows}, {span.stop})")
    return mask


def _refuse_unseen(span: Span, last: Tensor, ends: Tensor, first: int) -> None:
    """Refuse prompts in pieces with an unsteered end. Only here the host waits for the device."""
    complete = (ends <= span.stop) & (ends > span.start)
    if bool((complete & (last < first)).any()):
        raise AttachError(
            "the last real prompt token of a row is in a cached prefix that was not steered: pad on the "
            "left, or declare the mask of the whole prompt from the first piece on"
        )


def decoded_sites(span: Span, inputs: Mapping[str, Any]) -> Tensor:
    """(rows, length) bool: real tokens after the prompt."""
    device = tokens_of(inputs).device
    columns = torch.arange(span.start, span.stop, device=device)
    decoded = columns >= torch.tensor(span.ends, device=device)[:, None]
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] >= span.stop:
        decoded = decoded & mask[:, span.start : span.stop].to(device=device, dtype=torch.bool)
    return decoded
