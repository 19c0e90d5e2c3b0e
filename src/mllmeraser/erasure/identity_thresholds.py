"""Thresholds of the name gate and of the face gate: together they keep to one rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.steering_pass import NOWHERE
from mllmeraser.erasure.threshold import conformal_threshold
from mllmeraser.samples.sample import Sample

NAME_SHARE = 0.5
"""Share of the allowed false alarms that names may take; what they leave is for faces, which are harder to tell."""

ROOM = 1 / 3
"""How far a threshold moves from the calibrated one towards the names, or faces, to be forgotten."""


def name_and_face(
    seen: tuple[Tensor, Tensor],
    meant: tuple[Tensor, Tensor],
    held: Sequence[Sample],
    *,
    alpha: float,
    spare: float,
) -> tuple[float, float]:
    """Thresholds of the two gates.

    Args:
        seen: Their scores of the calibration prompts, (n, subjects) each, ``NOWHERE`` where there is nothing to read.
        meant: Their scores of the prompts ``held``, in which somebody to be forgotten is meant.
        held: Those prompts: by name where there is no picture, else by face.
        alpha: Allowed share of false alarms, of both gates together.
        spare: Share of the held prompts whose scores are not looked at, the lowest.
    """
    named = torch.tensor([sample.image is None for sample in held])
    name = _threshold(seen[0].amax(-1), NAME_SHARE * alpha, meant[0].amax(-1)[named], spare)
    taken = (int((seen[0].amax(-1) > name).sum()) + 1) / (len(seen[0]) + 1)
    left = alpha - min(taken, NAME_SHARE * alpha)
    return name, _threshold(seen[1].amax(-1), left, meant[1].amax(-1)[~named], spare)


def _threshold(scores: Tensor, alpha: float, forget: Tensor, spare: float) -> float:
    """The conformal threshold of the prompts that have such a site, with room."""
    present = scores[scores > NOWHERE / 2]
    if not len(present):
        return 1.0
    rate = min(alpha * len(scores) / len(present), 0.5)
    return with_room(conformal_threshold(present, rate), forget, spare)


def with_room(threshold: float, forget: Tensor, spare: float) -> float:
    """A threshold part of the way up to the lowest states to be forgotten, where those are higher.

    A question in words that calibration never saw may hold a token nearer to a name than all that it saw, and a face
    that it never saw may be nearer to one; in between there is mostly room. The stated rate of false alarms holds all
    the more.
    """
    present = forget[forget > NOWHERE / 2].double()
    low = float(torch.quantile(present, spare)) if len(present) else threshold
    return threshold + ROOM * max(0.0, low - threshold)
