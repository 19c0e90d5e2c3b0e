"""Gates: how much a state belongs to what is to be forgotten. One short file per kind."""

from mllmeraser.erasure.gates.base import Gate, GateKind, pooled
from mllmeraser.erasure.gates.linear import hard_gate, low_energy_basis, paper_matrix, soft_gate
from mllmeraser.erasure.gates.look_alikes import look_alike_pairs
from mllmeraser.erasure.gates.neural import neural_gate
from mllmeraser.erasure.gates.quadratic import quadratic_gate
from mllmeraser.erasure.gates.subject import DiscriminantBasis, Pairs, discriminant_basis, subject_gate

__all__ = [
    "Gate",
    "GateKind",
    "Pairs",
    "DiscriminantBasis",
    "hard_gate",
    "subject_gate",
    "look_alike_pairs",
    "low_energy_basis",
    "neural_gate",
    "paper_matrix",
    "pooled",
    "quadratic_gate",
    "discriminant_basis",
    "soft_gate",
]
