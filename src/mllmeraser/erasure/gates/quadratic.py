"""The quadratic gate: one Gaussian per subject against one Gaussian for everything to retain."""

from __future__ import annotations

import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import Gate, TensorSpec, finite
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.samples.errors import InputError, NumericalError

ADVICE = "use a larger gamma (the shrinkage of the retain covariance), or more samples"


class QuadraticGate(Gate):
    """A linear score plus a quadratic form of low rank."""

    TENSORS = (
        TensorSpec("weight", ("subjects", "width")),
        TensorSpec("factor", ("subjects", "rank", "width")),
        TensorSpec("centre", ("subjects", "rank")),
        TensorSpec("curvature", ("subjects", "rank")),
        TensorSpec("bias", ("subjects",)),
    )

    def formula(self, states: Tensor) -> Tensor:
        """(n, subjects) log-likelihood ratios."""
        t = self.tensors
        projected = torch.einsum("nd,skd->nsk", states, t["factor"]) - t["centre"]
        return states @ t["weight"].T + (projected.square() * t["curvature"]).sum(-1) + t["bias"]

    @classmethod
    def fit(cls, retain: Moments, forget: Moments, settings: GateSettings, seed: int = 0) -> QuadraticGate:
        """See `quadratic_gate`."""
        return quadratic_gate(retain, forget, shrink=settings.shrink, gamma=settings.gamma, rank=settings.rank)


def quadratic_gate(
    retain: Moments, forget: Moments, *, shrink: float = 0.5, gamma: float = 0.01, rank: int | None = 32
) -> QuadraticGate:
    """Log-likelihood ratio of a forget Gaussian against the retain Gaussian, from additive statistics alone.

    With S_r the retain covariance shrunk by `gamma` towards a multiple of I, and
    S_f = (1 - shrink) cov(forget) + shrink S_r, the generalised eigenvectors a_i (a_i^T S_r a_j = delta_ij) and
    eigenvalues e_i of S_f give

        score(h) = sum_i (1 - 1/e_i)/2 (a_i . h - a_i . mu_f)^2 + (S_r^-1 (mu_f - mu_r)) . h + const.

    `rank` keeps the directions in which the two Gaussians differ most (largest e - 1 - log e) and sets e = 1 in the
    others: rank * d numbers per subject and layer. None keeps all of them: exact, d * d numbers. With fewer forget
    states than dimensions the smallest eigenvalues are all `shrink`, and which of those are kept is arbitrary: give
    more views or a larger rank.
    """
    if not 0.0 < shrink <= 1.0 or (rank is not None and rank < 1):
        raise InputError(f"a quadratic gate needs 0 < shrink <= 1 and a rank of at least 1, not {shrink}, {rank}")
    reference = retain.covariance(gamma)
    try:
        lower = torch.linalg.cholesky(reference)
        ratios, vectors = _relative_spectrum(lower, forget.covariance(), shrink)
    except torch.linalg.LinAlgError as error:
        raise NumericalError(f"the retain covariance cannot be factored: {ADVICE}") from error
    divergence = ratios - 1.0 - ratios.log()
    kept = divergence.argsort(descending=True)[: rank or forget.width]
    ratios = ratios[kept]
    factor = torch.linalg.solve_triangular(lower.T, vectors[:, kept], upper=True).T
    slopes = torch.cholesky_solve(torch.stack([forget.mean, retain.mean], 1), lower)
    constant = (retain.mean @ slopes[:, 1] - forget.mean @ slopes[:, 0]) / 2 - ratios.log().sum() / 2
    tensors = {
        "weight": slopes[:, 0] - slopes[:, 1],
        "factor": factor,
        "centre": factor @ forget.mean,
        "curvature": (1.0 - 1.0 / ratios) / 2,
        "bias": constant,
    }
    return finite(QuadraticGate({k: v[None] for k, v in tensors.items()}), ADVICE)


def _relative_spectrum(lower: Tensor, covariance: Tensor, shrink: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues and whitened eigenvectors of (1 - shrink) `covariance` + shrink S_r relative to S_r = L L^T."""
    half = torch.linalg.solve_triangular(lower, covariance, upper=False)
    white = torch.linalg.solve_triangular(lower, half.T, upper=False)
    values, vectors = torch.linalg.eigh((white + white.T) / 2)
    return (1.0 - shrink) * values.clamp_min(0.0) + shrink, vectors
