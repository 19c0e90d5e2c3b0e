"""Subject gates: is this state the face, or the name, of a person to be forgotten?

The method is that of speaker and face verification: Fisher's discriminants, then a cosine score. States are centred on
the background and projected on the directions in which they differ most *between* people, relative to how the states of
one person vary. The score is the cosine with the subject's mean, less what competitors take. Centre, scatters and means
are sums, so they merge and subtract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mllmeraser.erasure.gates.base import SUBJECTS, Gate, TensorSpec, finite
from mllmeraser.erasure.gates.linear import ADVICE
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.samples.errors import InputError, NumericalError

SUBJECTS_AT_ONCE = 64
SHORTEST = 1e-12
"""Length below which a state has no direction."""


class SubjectGate(Gate):
    """Cosines with the subjects' means, less what competitors and look-alikes take.

    It is one of three gates of a decision: name, topic, face. The others are a `NameGate` and a `TopicGate`.
    """

    TENSORS: ClassVar[tuple[TensorSpec, ...]] = (
        TensorSpec("weight", (SUBJECTS, "rank")),
        TensorSpec("centre", ("width",)),
        TensorSpec("projection", ("width", "rank"), half=True),
        TensorSpec("background_cohort", ("cohort", "rank"), stored="cohort", half=True, optional=True),
        # Which cohort rows compete with which subject. Only gates merged for steering have it.
        TensorSpec("competes", (SUBJECTS, "cohort merged"), optional=True),
        TensorSpec("impostors", (SUBJECTS, "impostors", "rank"), stored="rivals", half=True, optional=True),
        TensorSpec("pair_weights", (SUBJECTS, "pairs", "width"), stored="apart", half=True, optional=True),
        TensorSpec("pair_bounds", (SUBJECTS, "pairs"), stored="least", optional=True),
    )
    FITTED_ON = "prompts"

    def formula(self, states: Tensor) -> Tensor:
        """(n, subjects) cosines, less penalties."""
        t = self.tensors
        projected = self.projected(states)
        scores = projected @ t["weight"].T
        nearest = self._nearest(projected)
        if nearest:  # All products of one state exceed its cosines by the same factor.
            scores = rivalry(scores, reduce(torch.maximum, nearest), self.settings.subject.rivalry)
        scores = scores / projected.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
        if "pair_weights" in t:
            reached = (states @ t["pair_weights"].flatten(0, 1).T).unflatten(-1, t["pair_bounds"].shape)
            beyond = (reached - t["pair_bounds"]).amin(-1).clamp_max(0.0)
            scores = torch.add(scores, beyond, alpha=self.settings.subject.veto)
        return scores

    def projected(self, states: Tensor) -> Tensor:
        """(n, rank) states (n, d), in the gate's dtype, less the centre, along the discriminants."""
        centre, projection = self.tensors["centre"], self.tensors["projection"]
        return torch.addmm(-(centre @ projection), states, projection)

    def _nearest(self, projected: Tensor) -> list[Tensor]:
        """(n, subjects) products with the nearest of the cohort, and with the nearest impostor of each subject."""
        t, nearest = self.tensors, []
        if "background_cohort" in t:
            products = projected @ t["background_cohort"].T
            if "competes" in t:  # (n, subjects, cohort) is large: some subjects at a time
                parts = t["competes"].split(SUBJECTS_AT_ONCE)
                own = [torch.where(some > 0, products[:, None, :], -torch.inf).amax(-1) for some in parts]
                nearest.append(torch.cat(own, dim=-1))
            else:
                nearest.append(products.amax(-1, keepdim=True))
        if "impostors" in t:
            impostors = t["impostors"]
            nearest.append((projected @ impostors.flatten(0, 1).T).unflatten(-1, impostors.shape[:2]).amax(-1))
        return nearest

    def with_bounds_lower_by(self, margin: float) -> SubjectGate:
        """The same gate with the boundaries to look-alikes lower by `margin`."""
        return self.with_tensors(pair_bounds=self.tensors["pair_bounds"] - margin)

    def fits_with(self, other: Gate) -> bool:
        """As for any gate; cohorts may differ, and the constants of scoring must not."""
        mine, theirs = self.settings.subject, other.settings.subject
        if (mine.rivalry, mine.veto) != (theirs.rivalry, theirs.veto):
            return False
        cohort = {"background_cohort": self.tensors["background_cohort"]} if "background_cohort" in self.tensors else {}
        if cohort and "background_cohort" in other.tensors:
            other = other.with_tensors(**cohort)
        return super().fits_with(other)

    def _merged(self, gates: Sequence[Gate]) -> dict[str, Tensor]:
        return {**super()._merged(gates), **_cohorts_side_by_side(gates)}

    @classmethod
    def consolidate(cls, gates: Sequence[Gate]) -> Gate:
        """As `merge`, but all subjects compete with the same cohort: the people that all gates share."""
        merged = cls.merge(gates)
        if "background_cohort" not in merged.tensors or len(gates) == 1:
            return merged
        keys = [{_key(row) for row in gate.tensors["background_cohort"]} for gate in gates]
        shared = set.intersection(*keys)
        first = gates[0].tensors["background_cohort"]
        rows = [i for i, row in enumerate(first) if _key(row) in shared]
        tensors = {name: tensor for name, tensor in merged.tensors.items() if name != "competes"}
        return cls({**tensors, "background_cohort": first[rows]}, merged.settings)


def rivalry(scores: Tensor, nearest: Tensor, weight: float) -> Tensor:
    """Scores with a subject, less `weight` times the amount by which the nearest competitor fits better.

    So the best fit separates look-alikes, however good it is.
    """
    return torch.add(scores, (scores - nearest).clamp_max(0.0), alpha=weight)


def _key(row: Tensor) -> bytes:
    return row.cpu().numpy().tobytes()


def _cohorts_side_by_side(gates: Sequence[Gate]) -> dict[str, Tensor]:
    """The cohorts of all gates, each person once, and with whom each person competes where that differs."""
    if "background_cohort" not in gates[0].tensors:
        return {}
    keys = [[_key(row) for row in gate.tensors["background_cohort"]] for gate in gates]
    people: dict[bytes, Tensor] = {}
    for gate, own in zip(gates, keys, strict=True):
        for key, row in zip(own, gate.tensors["background_cohort"], strict=True):
            people.setdefault(key, row)
    cohort = torch.stack([*people.values()]) if people else gates[0].tensors["background_cohort"]
    if all(len(own) == len(people) for own in keys):
        return {"background_cohort": cohort}
    place = {key: i for i, key in enumerate(people)}
    competes = [cohort.new_zeros(gate.subjects, len(people)) for gate in gates]
    for rows, own in zip(competes, keys, strict=True):
        rows[:, [place[key] for key in own]] = 1
    return {"background_cohort": cohort, "competes": torch.cat(competes)}


@dataclass(frozen=True)
class DiscriminantBasis:
    """Fisher's discriminants at one site. They are made from retained people alone, so all subjects share them.

    Attributes:
        centre: (d,) float64 mean of the background states.
        projection: (d, rank) float64 discriminants, in values that float16 holds.
        root: (d, d) float64 lower Cholesky root of the variation within a person, ridge included.
    """

    centre: Tensor
    projection: Tensor
    root: Tensor

    def unit(self, mean: Tensor) -> Tensor:
        """(rank,) unit vector of a mean state (d,)."""
        vector = (mean - self.centre) @ self.projection
        return vector / vector.norm().clamp_min(SHORTEST)

    def units(self, groups: Sequence[Moments]) -> Tensor:
        """(groups, rank) unit vectors of the means of groups of states; zero for an empty group."""
        rows = [self.unit(m.mean) if m.n else torch.zeros_like(self.projection[0]) for m in groups]
        return torch.stack(rows)

    def seen(self, states: Tensor) -> Tensor:
        """(n, rank) unit vectors of states (n, d), float64."""
        return normalize((states.to(self.centre) - self.centre) @ self.projection, dim=-1)


@dataclass(frozen=True)
class Pairs:
    """Discriminants of subjects against single look-alikes; see `look_alike_pairs`.

    Attributes:
        weights: (subjects, m, d) in values that float16 holds; along each, the two means are 1 apart.
        bounds: (subjects, m) smallest value that a state of the subject reaches.
    """

    weights: Tensor
    bounds: Tensor


def discriminant_basis(
    background: Moments, people: Iterable[Moments], *, rank: int = 40, ridge: float = 0.05
) -> DiscriminantBasis:
    """The directions in which states differ most between people, relative to how one person's states vary.

    Args:
        background: All states at the site that belong to no subject.
        people: States of several people (or names), one `Moments` at a time: each has d x d sums.
        rank: Directions that are kept (at most the width).
        ridge: Share of the background's covariance that is added to the variation within a person.
    """
    scatter, free = torch.zeros_like(background.second), 0
    for person in people:
        if person.n > 1:
            scatter += person.second - torch.outer(person.total, person.total) / person.n
            free += person.n - 1
    if background.n < 2 or not free:
        raise InputError("a subject gate needs retain states, and several states of at least one person")
    total = background.covariance()
    root, projection = _discriminants(total, scatter / free + ridge * total, rank)
    # A cosine does not depend on the scale.
    return DiscriminantBasis(background.mean, short(projection / projection.abs().max()), root)


def subject_gate(
    basis: DiscriminantBasis,
    forget: Sequence[Moments],
    cohort: Sequence[Moments] = (),
    impostors: Tensor | None = None,
    pairs: Pairs | None = None,
    settings: GateSettings | None = None,
) -> SubjectGate:
    """Gates of the subjects `forget` at one site. Each depends on the basis, its competitors and its own states alone.

    Args:
        forget: States of each subject; the gate of a subject without states never opens.
        cohort: States of retained people. A state that fits one of them better than a subject is not the subject's,
            however alike the two are.
        impostors: (subjects, m, rank) unit vectors that compete with one subject each.
        pairs: Boundaries between subjects and single look-alikes.
        settings: Size of the cohort, and the constants of scoring.
    """
    chosen = settings or GateSettings()
    tensors: dict[str, Tensor] = {
        "weight": basis.units(forget), "centre": basis.centre, "projection": basis.projection,
    }  # fmt: skip
    if impostors is not None:
        tensors["impostors"] = short(impostors)
    if pairs is not None:
        tensors |= {"pair_weights": pairs.weights, "pair_bounds": pairs.bounds}
    if cohort:
        others, most = basis.units(cohort), chosen.subject.background_cohort
        nearest = (others @ tensors["weight"].T).amax(1).argsort(descending=True)[:most].sort().values
        tensors["background_cohort"] = short(others[nearest])
    return finite(SubjectGate(tensors, chosen), ADVICE)


def axis_sizes(settings: GateSettings, width: int, subjects: int) -> tuple[Mapping[str, int], ...]:
    """Lengths of the axes of the gates for name, topic and face, for `Gate.forecast_bytes`."""
    shared = {SUBJECTS: subjects, "width": width, "rank": min(settings.rank or width, width)}
    name = {**shared, "impostors": settings.subject.impostors, "forms": settings.subject.name_forms}
    face = {**shared, "pairs": settings.subject.look_alikes, "cohort": settings.subject.background_cohort}
    return name, {**shared, "one": 1}, face


def _discriminants(total: Tensor, within: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Cholesky root of `within`, and the (d, rank) directions V of largest variance, with V' within V = I."""
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
    """The nearest values that float16 holds, so that calibration sees what is stored."""
    return tensor.half().to(tensor)
