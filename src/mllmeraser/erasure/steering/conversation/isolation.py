"""The attention of the reading pass: each turn sees itself alone.

So a turn is read as the plain prompt that it would be. No system message, earlier turn or document can open or shut a
gate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.steering.conversation.turns import Turns
from mllmeraser.samples.errors import AttachError


def visible(turns: Turns, prompt: Tensor) -> Tensor:
    """(rows, length, length) bool: whether a position (second axis) may attend to another (third axis).

    Positions may attend to their own turn, and to the start that every plain prompt has. An answer of an earlier turn
    sees the mark of its user and itself, not the question: so it is read as a user's turn of these words. Padding
    attends to itself, for a row without anything to attend to gives NaN.
    """
    turn = turns.number[:, :, None] == turns.number[:, None, :]
    side = turns.answered[:, :, None] == turns.answered[:, None, :]
    same = turn & (side | turns.mark[:, None, :])
    seen = prompt[:, None, :] & (same | turns.shared[:, None, :])
    return seen | torch.eye(prompt.shape[1], dtype=torch.bool, device=prompt.device)


def isolating(mask: Any, allowed: Tensor, dtype: torch.dtype, *, eager: bool) -> Any:
    """The attention mask of the reading pass, in the form in which `mask` came to the decoder.

    Args:
        mask: None, two-dimensional, prepared (four axes), or a mapping of those by kind of attention.
        allowed: See `visible`.
        dtype: Of an additive mask.
        eager: Whether attention adds its mask to the scores.
    """
    if isinstance(mask, dict):
        return {kind: isolating(one, allowed, dtype, eager=eager) for kind, one in mask.items()}
    allowed = allowed[:, None]  # a prepared mask holds the order of the tokens already
    if isinstance(mask, Tensor) and mask.dim() == 4:
        if mask.shape[-2:] != allowed.shape[-2:]:
            raise AttachError("the turns of this conversation cannot be told apart under a prepared attention mask")
        if mask.dtype == torch.bool:
            return mask & allowed
        return mask.masked_fill(~allowed, torch.finfo(mask.dtype).min)
    if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
        raise AttachError("the turns of this conversation cannot be told apart: attend with 'sdpa' or 'eager'")
    allowed = allowed.tril()
    if not eager:
        return allowed
    none = torch.zeros((), dtype=dtype, device=allowed.device)
    return torch.where(allowed, none, torch.full_like(none, torch.finfo(dtype).min))
