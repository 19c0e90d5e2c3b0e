"""How a finished decision does in conversations: detection and false alarms in each kind of context."""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure.artifact.manifest import ContextRates
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.contexts import STANDING
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

PROMPTS = 16
"""Prompts of each side in each kind of context."""


def rates_in_context(
    model: MultimodalModel,
    eraser: Steerable,
    threshold: float,
    forget: Sequence[Sample],
    others: Sequence[Sample],
    *,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, ContextRates]:
    """Decisions on held-out prompts in the contexts of the half `validation`; none in kinds the chat format lacks."""
    rates = {}
    some = [_spread(rows, PROMPTS) for rows in (forget, others)]
    asked = Sample("Who is this?")
    kinds = [k for k in STANDING if model.takes(STANDING[k](asked, Stream("calibration", k), "validation"))]
    talks = [
        STANDING[kind](sample, Stream("calibration", seed, kind, number), "validation")
        for kind in kinds
        for number, sample in enumerate([*some[0], *some[1]])
    ]
    if not talks:
        return {}
    scores = read_gate(model, eraser, talks, batch_size=batch_size, progress=progress).pooled
    for kind, own in zip(kinds, scores.reshape(len(kinds), -1), strict=True):
        fired = own > threshold
        n = len(some[0])
        rates[kind] = ContextRates(
            detected=int(fired[:n].sum()), forget=n, false_alarms=int(fired[n:].sum()), retain=len(some[1])
        )
    return rates


def _spread(rows: Sequence[Sample], n: int) -> list[Sample]:
    """`n` of the rows, evenly spread."""
    return [rows[i * len(rows) // n] for i in range(n)] if len(rows) > n else list(rows)
