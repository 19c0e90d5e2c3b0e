"""Look-alikes: what tells a subject's face from those retained people who come nearest to it.

A basis knows nothing of who is to be forgotten, and keeps few directions: what sets one face apart from the next may
not be among them. So each subject has, for each of the nearest retained faces, Fisher's discriminant between the two
(difference of the means, whitened by how one person's pictures vary), and a picture that lies on the other's side of
it is not the subject's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates.subject import DiscriminantBasis, Pairs, short

LOOK_ALIKES = 4
"""How many retained faces a subject is told from one by one."""
ROOM = 0.2
"""What is left below the lowest picture of a subject, as a share of the distance between two means.

With few pictures, one that was never seen often lies lower: without room, up to an eighth of the pictures of people who
have a double were taken for the double's. With more room, doubles are hardly told apart any longer.
"""


def look_alike_pairs(
    basis: DiscriminantBasis, views: Sequence[Tensor], held_out: Sequence[Tensor], people: Sequence[Tensor]
) -> Pairs | None:
    """Each subject against the `LOOK_ALIKES` retained people whose mean is nearest to its own, seen through the basis.

    The boundary lies `ROOM` below the middle between the two means, or where that would let a picture of the subject
    slip, below the lowest of its pictures, each also seen with a mean that it took no part in: two faces that cannot be
    told apart both count as the subject's.

    Args:
        basis: Through which faces are seen.
        views: For each subject its (pictures, d) states, each picture once.
        held_out: The same of pictures that no mean is made of.
        people: (d,) mean state of each retained person.

    Returns:
        The pairs; None where nobody is retained. A subject without pictures is told from nobody.
    """
    count = min(LOOK_ALIKES, len(people))
    if not count:
        return None
    means = torch.stack([mean.to(basis.centre) for mean in people])
    units = torch.stack([basis.unit(mean) for mean in means])
    weight = basis.centre.new_zeros(len(views), count, len(basis.centre))
    least = basis.centre.new_full((len(views), count), -1.0)
    for row, (own, held) in enumerate(zip(views, held_out, strict=True)):
        if len(own):
            own, held = own.to(means), held.to(means)
            nearest = (units @ basis.unit(own.mean(0))).topk(count).indices
            weight[row], least[row] = _apart(basis, own, held, means[nearest])
    return Pairs(weight, least)


def _apart(basis: DiscriminantBasis, own: Tensor, held: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (m, d) and least values (m,) of one subject with states (n, d) against means (m, d)."""
    mean = own.mean(0)
    weight = short(_discriminant(basis, mean, others))
    middle = (weight * (mean + others)).sum(-1) / 2
    seen = torch.cat([own, held]) @ weight.T - middle
    lowest = torch.cat([seen, _without_itself(basis, own, others)]).amin(0)
    return weight, middle + lowest.clamp_max(0.0) - ROOM


def _discriminant(basis: DiscriminantBasis, mean: Tensor, others: Tensor) -> Tensor:
    """(..., d) weights between means and others (..., d), along which the two are 1 apart."""
    gap = mean - others
    whitened = torch.cholesky_solve(gap.flatten(0, -2).T, basis.root).T.reshape(gap.shape)
    return whitened / (whitened * gap).sum(-1, keepdim=True).clamp_min(1e-12)


def _without_itself(basis: DiscriminantBasis, own: Tensor, others: Tensor) -> Tensor:
    """(n, m) where each state of a subject lies from the middle, with a mean that it took no part in."""
    n = len(own)
    if n < 2:
        return own.new_zeros(0, len(others))
    means = ((own.sum(0) - own) / (n - 1))[:, None, :]
    return (_discriminant(basis, means, others) * (own[:, None, :] - (means + others) / 2)).sum(-1)
