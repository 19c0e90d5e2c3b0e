"""Mean states of the pictures in a prompt, which a face gate reads.

A picture is a run of image placeholder tokens. Only the last of them has seen the whole picture, but the mean over all
is less noisy.
"""

from __future__ import annotations

import torch
from torch import Tensor


def may_look(device: torch.device) -> bool:
    """Whether shapes may depend on values: on the CPU that waits for nothing; in a compiled graph it is forbidden."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def run_means(states: Tensor, image: Tensor, most: int, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean state of every run of placeholders, without waiting for the device.

    The result is (rows, runs, d) float32 means in order, and (rows, runs) bool, which of these runs exist.

    Args:
        states: (rows, length, d).
        image: (rows, length) bool, the placeholder positions.
        most: Runs read in each row; later ones are ignored.
        starts: (rows, length) bool, positions where a run begins without a gap before it, as video frames do.
    """
    begins = image.clone()
    begins[:, 1:] &= ~image[:, :-1]
    if starts is not None:
        begins |= starts & image
    if may_look(image.device):  # a GPU would have to wait for the count, and empty runs cost it little
        most = min(most, max(1, int(begins.sum(1).max())))
    number = torch.where(image, begins.cumsum(1) - 1, -1)
    member = number[:, None, :] == torch.arange(most, device=image.device)[None, :, None]
    sizes = member.sum(-1)
    # other positions may hold infinity, and 0 times infinity would spoil the sum
    seen = torch.where(image[..., None], states.float(), torch.zeros((), device=states.device))
    return torch.bmm(member.float(), seen) / sizes.clamp(min=1)[..., None], sizes > 0
