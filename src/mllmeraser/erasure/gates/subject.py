"""Identity gates: is this state the face, or the name, of somebody to be forgotten?

Verification as in speaker and face recognition (Fisher's discriminants, cosine scoring): states are centred on the
retain states, projected on the directions in which they differ most *between* people relative to how one person's
states vary, and compared with the subject's mean by the cosine. Centre, scatters and means are sums: they merge and
subtract.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import Gate, finite
from mllmeraser.erasure.gates.linear import ADVICE
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.samples.errors import InputError, NumericalError

COHORT = 160
"""How many competitors an artifact holds at most: the retained people who are most like a subject."""


@dataclass(frozen=True)
class DiscriminantBasis:
    """How the subjects of one site are told apart; made from what is retained alone, so every subject shares it.

    Attributes:
        centre: (d,) float64 mean of the background states.
        projection: (d, rank) float64 discriminants, in values that float16 holds.
        root: (d, d) float64 lower Cholesky root of how one person's states vary, with its ridge.
    """

    centre: Tensor
    projection: Tensor
    root: Tensor

    def unit(self, mean: Tensor) -> Tensor:
        """(rank,) unit vector of a mean state (d,)."""
        return _unit((mean - self.centre) @ self.projection)

    def units(self, groups: Sequence[Moments]) -> Tensor:
        """(groups, rank) unit vectors of the means of groups of states; zero for a group without any."""
        rows = [self.unit(m.mean) if m.n else torch.zeros_like(self.projection[0]) for m in groups]
        return torch.stack(rows)

    def seen(self, states: Tensor) -> Tensor:
        """(n, rank) unit vectors of states (n, d), float64."""
        return torch.nn.functional.normalize((states.to(self.centre) - self.centre) @ self.projection, dim=-1)


@dataclass(frozen=True)
class Pairs:
    """Discriminants of subjects against those who look alike; see `look_alike_pairs`.

    Attributes:
        weight: (subjects, m, d) in values that float16 holds; along it the two means are 1 apart.
        least: (subjects, m) what a state of the subject's reaches at least.
    """

    weight: Tensor
    least: Tensor


def discriminant_basis(
    background: Moments, people: Iterable[Moments], *, rank: int = 40, ridge: float = 0.05
) -> DiscriminantBasis:
    """The directions in which states differ most between people relative to how one person's states vary.

    Args:
        background: All states at the site that are nobody's to be forgotten.
        people: States of each of several people (or names): how one person's states vary. One at a time: each has
            d x d sums.
        rank: Directions that are kept (at most the width).
        ridge: Share of the background's covariance that is added to the variation within a person.

    Raises:
        InputError: There are no background states, or nobody has two.
        NumericalError: The discriminants cannot be found.
    """
    scatter, free = torch.zeros_like(background.second), 0
    for person in people:
        if person.n > 1:
            scatter += person.second - torch.outer(person.total, person.total) / person.n
            free += person.n - 1
    if background.n < 2 or not free:
        raise InputError("an identity gate needs retain states, and several states of at least one person")
    total = background.covariance()
    root, projection = _discriminants(total, scatter / free + ridge * total, rank)
    # the cosine does not know the scale
    return DiscriminantBasis(background.mean, short(projection / projection.abs().max()), root)


def subject_gate(
    basis: DiscriminantBasis,
    forget: Sequence[Moments],
    cohort: Sequence[Moments] = (),
    rivals: Tensor | None = None,
    pairs: Pairs | None = None,
) -> Gate:
    """Gates of the subjects ``forget`` at one site; each depends on the basis, its rivals and its own states alone.

    Args:
        basis: What all subjects share.
        forget: States of each subject; a subject without any gets a gate that never opens.
        cohort: States of retained people, who compete with every subject: a state that fits one of them better than
            a subject is not the subject's, however much the two look alike.
        rivals: (subjects, m, rank) unit vectors that compete with one subject each.
        pairs: What tells subjects from single people who look alike.

    Raises:
        NumericalError: A gate is not finite.
    """
    tensors = {"weight": basis.units(forget), "centre": basis.centre, "projection": basis.projection}
    if rivals is not None:
        tensors["rivals"] = short(rivals)
    if pairs is not None:
        tensors |= {"apart": pairs.weight, "least": pairs.least}
    if cohort:
        others = basis.units(cohort)
        nearest = (others @ tensors["weight"].T).amax(1).argsort(descending=True)[:COHORT].sort().values
        tensors["cohort"] = short(others[nearest])
    return finite(Gate("subject", tensors), ADVICE)


def _discriminants(total: Tensor, within: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Cholesky root of ``within``, and the (d, rank) directions of largest variance V, with V' within V = I."""
    width = total.shape[0]
    within = within + 1e-9 * within.diagonal().mean() * torch.eye(width, dtype=within.dtype)
    try:
        root = torch.linalg.cholesky((within + within.T) / 2)
        half = torch.linalg.solve_triangular(root, total, upper=False)
        ratio = torch.linalg.solve_triangular(root, half.T, upper=False)
        vectors = torch.linalg.eigh((ratio + ratio.T) / 2).eigenvectors[:, -min(rank, width) :]
    except torch.linalg.LinAlgError as error:
        raise NumericalError(f"no discriminants of the retain states: {ADVICE}") from error
    return root, torch.linalg.solve_triangular(root.T, vectors, upper=True)


def short(tensor: Tensor) -> Tensor:
    """The nearest values that float16 holds, so that what is calibrated is what is stored (see ``HALF``)."""
    return tensor.half().to(tensor)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp_min(1e-12)
