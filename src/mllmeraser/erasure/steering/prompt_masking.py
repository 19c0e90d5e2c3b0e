"""Prompt masking: after the gate fired, the answer attends to the first and the last token of its prompt alone.

The shift moves the last prompt token. A long answer would look the person up again, in the picture or the name. Masking
removes both. The first token stays since attention rests on it, the last since the shift is there.

An answer that is scored, not generated, passes through the model together with its prompt and sees it. Its scores can
show more than the model would say. Masking covers self-attention only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering.prompt_positions import PromptSites
from mllmeraser.samples.errors import AttachError

WHOLE = "full_attention"
"""Transformers' name for attention with a cache of every column."""


def masked_tokens(sites: PromptSites, fired: Tensor) -> Tensor:
    """(rows, columns) bool: prompt tokens that decoded tokens must not attend to; no columns if there are none.

    `sites` are those of the whole prompt, `fired` (rows,) bool.
    """
    fired = fired.to(sites.prompt.device)
    if image_spans.may_look(fired.device) and not bool(fired.any()):
        return sites.prompt[:, :0]
    order = sites.prompt.cumsum(1)
    return sites.prompt & (order > 1) & (order < order[:, -1:]) & fired[:, None]


def mask_columns(mask: Any, masked: Tensor, stop: int, *, flash: bool = False) -> Any:
    """An attention mask of `stop` columns that leaves out the masked tokens, in the form in which it came.

    Args:
        mask: None, (rows, columns), a prepared (rows, heads, length, columns) in bool or additive, or a mapping of
            those by kind of attention.
        masked: (rows, prompt columns) bool; see `masked_tokens`.
        stop: Columns of the cache after this pass.
        flash: Whether the attention takes prepared masks with two dimensions.
    """
    columns = masked.shape[1]
    if columns == 0:
        return mask
    if isinstance(mask, dict):
        return {kind: _of_kind(kind, one, masked, stop, flash) for kind, one in mask.items()}
    if mask is None:
        mask = torch.ones(masked.shape[0], stop, dtype=torch.long, device=masked.device)
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        raise AttachError("the prompt cannot be masked in this kind of attention mask: attend with 'sdpa' or 'eager'")
    if mask.shape[-1] < stop:
        raise AttachError(f"the attention mask has {mask.shape[-1]} columns, the cache {stop}: nothing can be masked")
    masked = masked.to(mask.device) if mask.dim() == 2 else masked.to(mask.device)[:, None, None]
    left = mask.clone()
    left[..., :columns].masked_fill_(masked, torch.finfo(mask.dtype).min if mask.is_floating_point() else 0)
    return left


def _of_kind(kind: str, mask: Any, masked: Tensor, stop: int, flash: bool) -> Any:
    """A prepared mask of one kind of attention.

    Transformers prepares None where the one token of this pass attends to all columns. A window holds the last columns.
    """
    if mask is None and not flash:
        mask = torch.ones(masked.shape[0], 1, 1, stop, dtype=torch.bool, device=masked.device)
    gone = 0
    if kind != WHOLE and isinstance(mask, Tensor) and mask.dim() == 4:
        gone = max(0, stop - mask.shape[-1])
    return mask_columns(mask, masked[:, gone:], stop - gone)
