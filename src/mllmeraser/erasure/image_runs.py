"""Where a picture ends in a prompt, and the mean state of its tokens: what a face gate looks at.

A picture is a run of image placeholders. The last one alone has seen the whole picture, but one state of one token is a
noisy witness; the mean over the run is a steadier one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def run_ends(image: Tensor) -> Tensor:
    """(rows, length) bool: the last placeholder of every run in ``image`` (rows, length) bool."""
    follows = torch.zeros_like(image)
    follows[:, :-1] = image[:, 1:]
    return image & ~follows


def run_means(states: Tensor, image: Tensor) -> Tensor:
    """The mean of the states (rows, length, d) over the run of a placeholder, up to and with itself.

    Float32, (rows, length, d); of use at ``run_ends``. Where ``image`` is false the values mean nothing.
    """
    within = image[..., None]
    sums = torch.where(within, states.float(), torch.zeros((), device=states.device)).cumsum(1)
    columns = torch.arange(image.shape[1], device=image.device).expand_as(image)
    outside = (
        torch.where(image, torch.full_like(columns, -1), columns).cummax(1).values
    )  # the last column before the run
    before = sums.gather(1, outside.clamp(min=0)[..., None].expand_as(sums))
    before = torch.where(outside[..., None] >= 0, before, torch.zeros_like(before))
    return (sums - before) / (columns - outside).clamp(min=1)[..., None]
