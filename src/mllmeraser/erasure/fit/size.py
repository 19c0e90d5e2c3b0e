"""How large an eraser will be, before it is made."""

from __future__ import annotations

from mllmeraser.erasure.fit.subject import RIVALS
from mllmeraser.erasure.gates.look_alikes import LOOK_ALIKES
from mllmeraser.erasure.gates.subject import COHORT
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.samples.errors import InputError

FLOAT, HALF = 4, 2
AFFINE = 2 * FLOAT
"""A scale and an offset."""


def artifact_bytes(settings: FitSettings, width: int, depth: int, subjects: int = 1) -> tuple[int, int]:
    """Bytes of the tensors of an eraser: of all of it, and of each further subject.

    At most: fewer retained people than an artifact holds make it smaller. The highest scores of calibration prompts
    that an eraser of linear gates keeps, for revoking, do not count.

    Args:
        settings: Of the fit; gates `subject`, `hard` or `soft`.
        width: Length d of a state.
        depth: Blocks of the decoder.
        subjects: How many are forgotten.

    Raises:
        InputError: If the gate is of another kind, or the layers do not suit the depth.
    """
    reads, candidates = settings.layers(depth)
    shifts = max(len(layers) for layers in candidates)
    directions = shifts * width * FLOAT
    if settings.gate.kind == "subject":
        rank = min(settings.gate.rank or width, width)
        shared = 2 * (width * FLOAT + width * rank * HALF) + COHORT * rank * HALF
        each = _person(width, rank)
    elif settings.gate.kind in ("hard", "soft"):
        shared, each = 0, len(reads) * (width * FLOAT + AFFINE)
    else:
        raise InputError(f"the size of {settings.gate.kind} gates is not foreseen: fit one and look")
    own = each + directions  # every subject's share of the directions is kept, so that it can be revoked
    return shared + directions + subjects * own, own


def _person(width: int, rank: int) -> int:
    """Bytes of one subject at the gates of the name, the topic and the face."""
    name = rank * FLOAT + RIVALS * rank * HALF + AFFINE
    topic = width * FLOAT + AFFINE
    face = rank * FLOAT + LOOK_ALIKES * (width * HALF + FLOAT) + AFFINE
    return name + topic + face + FLOAT  # the rate of false alarms it is promised
