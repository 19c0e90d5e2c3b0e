"""Which tokens of a prompt are a picture, and the mean state of each picture's tokens: what a face gate looks at.

A picture is a run of image placeholders. The last one alone has seen the whole picture, but one state of one token is a
noisy witness; the mean over the run is a steadier one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def may_look(device: torch.device) -> bool:
    """Whether shapes may depend on values: on the CPU nothing waits for that, outside of a graph nothing breaks."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def run_means(states: Tensor, image: Tensor, most: int, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean state of every run of placeholders.

    Args:
        states: (rows, length, d).
        image: (rows, length) bool, which positions are placeholders.
        most: Runs of a row that are looked for; a later one is not seen.
        starts: (rows, length) bool, where a run begins although the one before has no gap behind it: frames of a video.

    Returns:
        (rows, runs, d) means in float32, runs in order, and (rows, runs) bool, which of them there are; at most `most`
        runs, on the CPU no more than there are. Nothing waits for the device.
    """
    begins = image.clone()
    begins[:, 1:] &= ~image[:, :-1]
    if starts is not None:
        begins |= starts & image
    if may_look(image.device):  # on a GPU counting them would wait for it, and so many cost it little
        most = min(most, max(1, int(begins.sum(1).max())))
    number = torch.where(image, begins.cumsum(1) - 1, -1)
    member = number[:, None, :] == torch.arange(most, device=image.device)[None, :, None]
    sizes = member.sum(-1)
    # what is no picture may hold anything: 0 times infinity would spoil the sum
    seen = torch.where(image[..., None], states.float(), torch.zeros((), device=states.device))
    return torch.bmm(member.float(), seen) / sizes.clamp(min=1)[..., None], sizes > 0
