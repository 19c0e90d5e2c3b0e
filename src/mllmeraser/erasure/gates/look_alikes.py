"""Boundaries between a subject's face and the retained faces nearest to it.

A discriminant basis keeps few directions, and what separates one face from the next may not be among them. So each
subject has, for each of the nearest retained faces, Fisher's discriminant between the two: the difference of the means,
whitened by how one person's pictures vary. A picture on the other's side of the boundary is not the subject's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates.subject import SHORTEST, DiscriminantBasis, Pairs, short
from mllmeraser.erasure.settings import SubjectSettings


def look_alike_pairs(
    basis: DiscriminantBasis,
    views: Sequence[Tensor],
    held_out: Sequence[Tensor],
    people: Sequence[Tensor],
    settings: SubjectSettings | None = None,
) -> Pairs | None:
    """Each subject against the retained people with the nearest mean in the basis of faces; None without such people.

    The boundary lies `pair_margin` below the middle of the two means. If a picture of the subject lies below the
    middle, the boundary lies as far below the lowest picture. Each picture is also measured against a mean made without
    it. Two faces that are too alike both count as the subject's. A subject without pictures gets bounds that
    reject no state.

    Args:
        views: For each subject the (pictures, d) states, each picture once.
        held_out: The same for pictures that no mean is made of.
        people: (d,) mean state of each retained person.
        settings: How many look-alikes, and the margin.
    """
    chosen = settings or SubjectSettings()
    count = min(chosen.look_alikes, len(people))
    if not count:
        return None
    means = torch.stack([mean.to(basis.centre) for mean in people])
    units = torch.stack([basis.unit(mean) for mean in means])
    weights = basis.centre.new_zeros(len(views), count, len(basis.centre))
    bounds = basis.centre.new_full((len(views), count), -1.0)
    for row, (own, held) in enumerate(zip(views, held_out, strict=True)):
        if len(own):
            own, held = own.to(means), held.to(means)
            nearest = (units @ basis.unit(own.mean(0))).topk(count).indices
            weights[row], bounds[row] = _boundaries(basis, own, held, means[nearest], chosen.pair_margin)
    return Pairs(weights, bounds)


def _boundaries(
    basis: DiscriminantBasis, own: Tensor, held: Tensor, others: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Weights (m, d) and bounds (m,) of one subject with states (n, d) against means (m, d)."""
    mean = own.mean(0)
    weights = short(_discriminant(basis, mean, others))
    middle = (weights * (mean + others)).sum(-1) / 2
    seen = torch.cat([own, held]) @ weights.T - middle
    lowest = torch.cat([seen, _left_out(basis, own, others)]).amin(0)
    return weights, middle + lowest.clamp_max(0.0) - margin


def _discriminant(basis: DiscriminantBasis, mean: Tensor, others: Tensor) -> Tensor:
    """(..., d) weights between means and others (..., d), along which the two are 1 apart."""
    gap = mean - others
    whitened = torch.cholesky_solve(gap.flatten(0, -2).T, basis.root).T.reshape(gap.shape)
    return whitened / (whitened * gap).sum(-1, keepdim=True).clamp_min(SHORTEST)


def _left_out(basis: DiscriminantBasis, own: Tensor, others: Tensor) -> Tensor:
    """(n, m) distance of each state from the middle, with a mean made without that state."""
    n = len(own)
    if n < 2:
        return own.new_zeros(0, len(others))
    means = ((own.sum(0) - own) / (n - 1))[:, None, :]
    return (_discriminant(basis, means, others) * (own[:, None, :] - (means + others) / 2)).sum(-1)
