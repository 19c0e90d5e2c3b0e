"""Linear gates: the null-space constrained gate of the paper (`hard`), and its one-Cholesky relative (`soft`)."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import Gate, TensorSpec, finite, require_sides
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.models.capture import require_finite
from mllmeraser.samples.errors import InputError, NumericalError

ADVICE = "use a larger gamma (the ridge), or more samples"


class LinearGate(Gate):
    """Raw score h . g, with `weight` (subjects, d) the vectors g."""

    TENSORS: ClassVar[tuple[TensorSpec, ...]] = (TensorSpec("weight", ("subjects", "width")),)

    def formula(self, states: Tensor) -> Tensor:
        """(n, subjects) products with the weights."""
        return states @ self.tensors["weight"].T


class HardGate(LinearGate):
    """The paper's gate, constrained to the null space of the retain states."""

    @classmethod
    def fit(cls, retain: Moments, forget: Moments, settings: GateSettings, seed: int = 0) -> HardGate:
        """See `hard_gate`."""
        return hard_gate(retain, forget, ratio=settings.ratio, gamma=settings.gamma)


class SoftGate(LinearGate):
    """A ridge regression with the retain energy as its penalty."""

    @classmethod
    def fit(cls, retain: Moments, forget: Moments, settings: GateSettings, seed: int = 0) -> SoftGate:
        """See `soft_gate`."""
        return soft_gate(retain, forget, beta=settings.beta, gamma=settings.gamma)


class DiscriminantGate(LinearGate):
    """Fisher's linear discriminant of two sides."""

    @classmethod
    def fit(cls, retain: Moments, forget: Moments, settings: GateSettings, seed: int = 0) -> DiscriminantGate:
        """See `discriminant_gate`."""
        return discriminant_gate(retain, forget, ridge=settings.ridge)


def low_energy_basis(gram: Tensor, ratio: float) -> Tensor:
    """(d, k) float64 orthonormal Q: the k = floor(ratio * d) eigenvectors of `gram` with the smallest eigenvalues.

    Null-space basis of AlphaSteer and MLLMEraser. It is a true null space only while the retain set has fewer than
    (1 - ratio) d independent states; beyond that it is the low-energy part. A `ratio` that leaves no direction is an
    `InputError`.
    """
    k = math.floor(ratio * gram.shape[0])
    if not 0.0 < ratio <= 1.0 or k < 1:
        raise InputError(f"ratio {ratio} of width {gram.shape[0]} leaves no direction for the gate")
    try:
        # The same LAPACK routine as torch.linalg.eigh; numpy's OpenBLAS took two thirds of the time of torch's MKL (AMD
        # EPYC, d = 2048). It reads one triangle alone, so that the matrix need not be symmetric to the last bit.
        _, vectors = np.linalg.eigh(gram.numpy())
    except np.linalg.LinAlgError as error:
        raise NumericalError(f"no eigenvectors of the retain states: {ADVICE}") from error
    return torch.from_numpy(vectors)[:, :k]


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric positive definite system, or say what to do; one triangle of `matrix` is read."""
    try:
        factor = torch.linalg.cholesky(matrix)
    except torch.linalg.LinAlgError as error:
        raise NumericalError(f"the gate's system is not positive definite: {ADVICE}") from error
    return torch.cholesky_solve(right[:, None], factor)[:, 0]


def hard_gate(retain: Moments, forget: Moments, *, ratio: float = 0.3, gamma: float = 1.0) -> HardGate:
    """The paper's gate, factored: g = Q (Q^T C_f Q + gamma I)^-1 Q^T m_f, with C_f and m_f sums.

    Equal to the dense matrix of the paper, W = g v^T (see `paper_matrix`).

    Raises:
        InputError: `ratio` leaves no direction, or there are no forget states.
        NumericalError: The system cannot be solved; use a larger gamma.
    """
    require_sides(retain.n, forget.n)
    basis = low_energy_basis(retain.second, ratio)
    inner = basis.T @ forget.second @ basis
    inner.diagonal().add_(gamma)
    weight = basis @ _solve(inner, basis.T @ forget.total)
    return finite(HardGate({"weight": weight[None]}), ADVICE)


def soft_gate(retain: Moments, forget: Moments, *, beta: float = 1.0, gamma: float = 0.01) -> SoftGate:
    """A ridge with the retain energy as the penalty: g = (C_f/n_f + beta C_r/n_r + gamma I)^-1 m_f/n_f.

    It minimises E_f (h.g - 1)^2 + beta E_r (h.g)^2 + gamma |g|^2. No null space has to exist, and the scale of the gate
    does not depend on the number of samples. For errors see `hard_gate`.
    """
    require_sides(retain.n, forget.n)
    # In place: at the width of a real model a pass over a matrix costs as much as a tenth of the Cholesky factor.
    matrix = retain.second * (beta / retain.n)
    matrix.add_(forget.second, alpha=1.0 / forget.n).diagonal().add_(gamma)
    return finite(SoftGate({"weight": _solve(matrix, forget.mean)[None]}), ADVICE)


def discriminant_gate(retain: Moments, forget: Moments, *, ridge: float = 0.1) -> DiscriminantGate:
    """Fisher's discriminant g = C^-1 (m_f - m_r) with the two means 1 apart along it.

    C is the covariance within the sides, pooled, plus `ridge` times its mean variance. For errors see `hard_gate`.
    """
    require_sides(retain.n, forget.n)
    within = (retain.covariance() * retain.n + forget.covariance() * forget.n) / (retain.n + forget.n)
    within.diagonal().add_(ridge * float(within.diagonal().mean()))
    apart = forget.mean - retain.mean
    weight = _solve(within, apart)
    return finite(DiscriminantGate({"weight": (weight / (weight @ apart))[None]}), ADVICE)


def paper_matrix(retain: Tensor, forget: Tensor, direction: Tensor, *, ratio: float, gamma: float) -> Tensor:
    """Dense (d, d) reference of the published fit: W = P (X^T X + gamma P)^+ X^T (1 r^T), X = H_f P.

    P = Q Q^T is the projection on the low-energy directions of the retain states (n_r, d); every target row is the same
    direction r (d,). A shift is h W. Only for tests and teaching: it equals g r^T with the factored gate.
    """
    h_r, h_f = (require_finite(s, "states").to(torch.float64) for s in (retain, forget))
    r = direction.to(torch.float64)
    # The same sums as the factored gate: of a null space of more than k directions, rounding chooses which are taken.
    basis = low_energy_basis(Moments.from_states(h_r).second, ratio)
    projection = basis @ basis.T
    x = h_f @ projection
    inner = x.T @ x + gamma * projection.T @ projection
    targets = torch.ones(h_f.shape[0], 1, dtype=torch.float64) * r
    # rtol separates the zero eigenvalues outside P from the ridge inside it.
    return projection @ torch.linalg.pinv(inner, rtol=1e-12, hermitian=True) @ x.T @ targets
