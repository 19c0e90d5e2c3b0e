"""Gates: how much a state belongs to what is to be forgotten. One file per kind.

A new kind is one file with a subclass of `Gate`, and one line in `KINDS`.
"""

from mllmeraser.erasure.gates.base import NO_SITE, Gate, TensorSpec, pooled
from mllmeraser.erasure.gates.linear import (
    DiscriminantGate,
    HardGate,
    LinearGate,
    SoftGate,
    discriminant_gate,
    hard_gate,
    low_energy_basis,
    paper_matrix,
    soft_gate,
)
from mllmeraser.erasure.gates.look_alikes import look_alike_pairs
from mllmeraser.erasure.gates.name import NameGate
from mllmeraser.erasure.gates.neural import NeuralGate, neural_gate
from mllmeraser.erasure.gates.quadratic import QuadraticGate, quadratic_gate
from mllmeraser.erasure.gates.subject import DiscriminantBasis, Pairs, SubjectGate, discriminant_basis, subject_gate
from mllmeraser.erasure.gates.topic import TopicGate
from mllmeraser.samples.errors import InputError

KINDS: dict[str, type[Gate]] = {
    "hard": HardGate,
    "soft": SoftGate,
    "quadratic": QuadraticGate,
    "neural": NeuralGate,
    "subject": NameGate,
    "discriminant": DiscriminantGate,
}


def gate_class(kind: str) -> type[Gate]:
    """The class of a kind of gate. An unknown kind is an `InputError`."""
    if kind not in KINDS:
        raise InputError(f"unknown gate {kind!r}: known are {', '.join(KINDS)}")
    return KINDS[kind]


__all__ = [
    "KINDS",
    "NO_SITE",
    "DiscriminantBasis",
    "DiscriminantGate",
    "Gate",
    "HardGate",
    "LinearGate",
    "NameGate",
    "NeuralGate",
    "Pairs",
    "QuadraticGate",
    "SoftGate",
    "SubjectGate",
    "TensorSpec",
    "TopicGate",
    "discriminant_basis",
    "discriminant_gate",
    "gate_class",
    "hard_gate",
    "look_alike_pairs",
    "low_energy_basis",
    "neural_gate",
    "paper_matrix",
    "pooled",
    "quadratic_gate",
    "soft_gate",
    "subject_gate",
]
