"""Size of an eraser, before it is made."""

from __future__ import annotations

from mllmeraser.erasure.gates import gate_class
from mllmeraser.erasure.gates.base import SUBJECTS
from mllmeraser.erasure.gates.subject import axis_sizes
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.samples.errors import InputError

FLOAT = 4


def artifact_bytes(
    settings: FitSettings, width: int, depth: int, subjects: int = 1, vocabulary: int = 0
) -> tuple[int, int]:
    """Largest size in bytes of the tensors of an eraser: of all of it, and of each further subject.

    A smaller background cohort makes it smaller. `calibration.tail` of linear gates does not count. `width` is the
    length of a state, `depth` the number of decoder blocks, `vocabulary` the number of tokens: the gate `subject` keeps
    a byte for each.
    """
    reads, candidates = settings.layers(depth)
    kind = gate_class(settings.gate.kind)
    if settings.gate.kind not in ("subject", "hard", "soft"):
        raise InputError(f"the size of {settings.gate.kind} gates cannot be forecast: fit one and look")
    directions = max(len(layers) for layers in candidates) * width * FLOAT

    def total(people: int) -> int:
        """Gates, directions, and what each subject adds: a share of every direction, and for some its rates."""
        if kind.FITTED_ON == "prompts":
            sizes, rates = axis_sizes(settings.gate, width, people), FLOAT * people + vocabulary
        else:
            sizes, rates = ({SUBJECTS: people, "width": width},) * len(reads), 0
        gates = sum(kind.at_layer(i).forecast_bytes(axes) for i, axes in enumerate(sizes))
        return gates + rates + directions * (1 + people)

    return total(subjects), total(subjects) - total(subjects - 1)
