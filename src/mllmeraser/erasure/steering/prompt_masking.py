"""What an answer no longer sees of a prompt that fired: all of it but its first and its last token.

The shift moves the last prompt token, and the answer that starts there. An answer that is made to go on past its end
would look the person up again, in the picture or the name; with both out of sight nothing of them is left to look up.
The first token stays because attention rests on it, the last because the shift is there. An answer that is scored, and
not said, goes through the model together with its prompt and sees it: it can only seem to know more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.states.image_spans import may_look
from mllmeraser.erasure.steering.prompt_positions import PromptSites
from mllmeraser.samples.errors import AttachError

WHOLE = "full_attention"
"""The kind of attention, as transformers calls it, whose cache holds every column."""


def hidden_tokens(sites: PromptSites, fired: Tensor) -> Tensor:
    """(rows, columns) bool: what decoded tokens are not to attend to; `sites` covers the whole prompt, `fired` rows.

    Without columns where it is known that there is nothing.
    """
    fired = fired.to(sites.prompt.device)
    if may_look(fired.device) and not bool(fired.any()):
        return sites.prompt[:, :0]
    order = sites.prompt.cumsum(1)
    return sites.prompt & (order > 1) & (order < order[:, -1:]) & fired[:, None]


def without(mask: Any, hidden: Tensor, stop: int, *, flash: bool = False) -> Any:
    """An attention mask of `stop` columns without those that are hidden, in the form in which it came.

    Args:
        mask: None, (rows, columns), a prepared (rows, heads, length, columns) in bool or to be added, or a mapping of
            those by kind of attention.
        hidden: (rows, prompt columns) bool, see `hidden_tokens`.
        stop: Columns of the cache after this pass.
        flash: Whether the attention takes prepared masks with two dimensions.

    Raises:
        AttachError: If the mask has another form, or does not cover the cache.
    """
    columns = hidden.shape[1]
    if columns == 0:
        return mask
    if isinstance(mask, dict):
        return {kind: _of_kind(kind, one, hidden, stop, flash) for kind, one in mask.items()}
    if mask is None:
        mask = torch.ones(hidden.shape[0], stop, dtype=torch.long, device=hidden.device)
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        raise AttachError("the prompt cannot be hidden in this kind of attention mask: attend with 'sdpa' or 'eager'")
    if mask.shape[-1] < stop:
        raise AttachError(f"the attention mask has {mask.shape[-1]} columns, the cache {stop}: nothing can be hidden")
    hidden = hidden.to(mask.device) if mask.dim() == 2 else hidden.to(mask.device)[:, None, None]
    left = mask.clone()
    left[..., :columns].masked_fill_(hidden, torch.finfo(mask.dtype).min if mask.is_floating_point() else 0)
    return left


def _of_kind(kind: str, mask: Any, hidden: Tensor, stop: int, flash: bool) -> Any:
    """A prepared mask of one kind of attention.

    None was made where the one token of this pass sees all there is. A window holds the last columns alone.
    """
    if mask is None and not flash:
        mask = torch.ones(hidden.shape[0], 1, 1, stop, dtype=torch.bool, device=hidden.device)
    gone = 0
    if kind != WHOLE and isinstance(mask, Tensor) and mask.dim() == 4:
        gone = max(0, stop - mask.shape[-1])
    return without(mask, hidden[:, gone:], stop - gone)
