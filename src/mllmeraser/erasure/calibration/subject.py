"""Thresholds of names, faces and topics: each subject has its own, and none depends on another subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.gates import DiscriminantBasis
from mllmeraser.erasure.gates.base import rivalry
from mllmeraser.erasure.gates.conformal import conformal_threshold, prompts_needed
from mllmeraser.erasure.steering.site_scores import NOWHERE

FACE_SHARE = 1 / 20
"""Share of the allowed false alarms that the face of one subject may take: an eraser may hold many."""

NAME_SHARE = 1 / 2
"""Share that a name may take which is hardly told from another; any other takes as little as can be promised."""

ROOM = 1 / 3
"""How far a threshold moves from the calibrated one towards the names, or faces, to be forgotten."""

TOPIC_ROOM = 1 / 10
"""How far the topic's threshold lies from all other questions, on the way to those for what is to be forgotten."""

NEVER = 1.0
"""Threshold of a gate with nothing to read: no cosine is larger."""


@dataclass(frozen=True)
class Levels:
    """Thresholds (subjects,), and for each the probability that a fresh calibration prompt lies above it."""

    thresholds: Tensor
    rates: Tensor

    @classmethod
    def common(cls, threshold: float, rate: float, subjects: int) -> Levels:
        """The same for all."""
        levels, rates = torch.tensor([[threshold], [rate]], dtype=torch.float64).expand(2, subjects)
        return cls(levels, rates)


def subject_thresholds(seen: Tensor, own: Sequence[Tensor], miss_rate: float, rate: float) -> Levels:
    """Thresholds as calibrated: above all that is seen, or lower, where that would let some slip.

    With n calibration prompts, a fresh one of their kind lies above the highest of them with a probability of at most
    1 / (n + 1). A subject that is hardly told from somebody else may cost up to ``rate``.

    Args:
        seen: Scores of the calibration prompts, (n, subjects), ``NOWHERE`` where a prompt has nothing to read.
        own: For each subject its scores of prompts in which it is meant, held out from the fit.
        miss_rate: Share of those whose scores are not looked at, the lowest.
        rate: Share of the calibration prompts that may lie above where the two overlap.
    """
    found = [_own(seen[:, i], mine, miss_rate, rate) for i, mine in enumerate(own)]
    return Levels(*torch.tensor(found, dtype=torch.float64).reshape(-1, 2).T)


def _own(scores: Tensor, own: Tensor, miss_rate: float, rate: float) -> tuple[float, float]:
    present = scores[scores > NOWHERE / 2]
    if not len(present):
        return NEVER, 0.0
    least = 1 / (len(present) + 1)
    above, low = conformal_threshold(present, least), _lowest(own, miss_rate)
    if low is None or low > above:
        return above, least
    return conformal_threshold(present, max(least, rate)), max(least, rate)


def impostor_threshold(
    basis: DiscriminantBasis,
    people: Sequence[tuple[str, Tensor]],
    seen: Sequence[tuple[str | None, Tensor]],
    rate: float,
) -> float | None:
    """The score that a picture of somebody else passes with probability ``rate``, however the subject looks.

    Every retained person plays the subject in turn, with the others as rivals, and all pictures of others are the
    impostors. So there are far more scores than pictures, and an odd picture does not decide alone.

    Args:
        basis: Through which faces are seen.
        people: Keys and (d,) mean states of retained people.
        seen: For calibration prompts, whom they show and their (pictures, d) states.
        rate: Share of the impostors above the threshold.

    Returns:
        The threshold; None where there are too few people or pictures for that rate.
    """
    if len(people) < 2:
        return None
    units = torch.stack([basis.unit(mean) for _, mean in people])
    shown = [key for key, states in seen for _ in states]
    states = torch.cat([basis.centre.new_zeros(0, len(basis.centre)), *(rows.to(basis.centre) for _, rows in seen)])
    cosines = basis.seen(states) @ units.T
    best = cosines.topk(2, dim=1)
    found = []
    for column, (key, _) in enumerate(people):
        other = torch.tensor([who != key for who in shown], dtype=torch.bool)
        nearest = torch.where(best.indices[:, 0] == column, best.values[:, 1], best.values[:, 0])
        found.append(rivalry(cosines[:, column], nearest)[other])
    impostors = torch.cat(found)
    return conformal_threshold(impostors, rate) if len(impostors) >= prompts_needed(rate) else None


def with_margin(thresholds: Tensor, own: Sequence[Tensor], miss_rate: float) -> Tensor:
    """Thresholds (subjects,) part of the way up to the lowest states to be forgotten, where those are higher.

    A question in words that calibration never saw may hold a token nearer to a name than all that it saw, and a face
    that it never saw may be nearer to one; in between there is mostly room. The stated rate of false alarms holds all
    the more.

    Args:
        thresholds: As calibrated.
        own: For each subject its scores of prompts in which it is meant, held out from the fit.
        miss_rate: Share of those whose scores are not looked at, the lowest.
    """
    moved = thresholds.double().clone()
    for row, scores in enumerate(own):
        low = _lowest(scores, miss_rate)
        if low is not None:
            moved[row] += ROOM * max(0.0, low - float(moved[row]))
    return moved


def topic_threshold(other: Tensor, facts: Tensor, own: Tensor, miss_rate: float) -> float:
    """Threshold of a subject's topic gate: between questions for what is to be forgotten and all others.

    Where both lie apart, a tenth of the way up from the others: whoever is not meant is told by name and face, and what
    is to be forgotten must not slip through in words that nobody foresaw. Else just under the facts.

    Args:
        other: Scores (n,) of prompts that ask for nothing of it.
        facts: Scores (m,) of calibration prompts that do, about whomever.
        own: The subject's held-out scores.
        miss_rate: Share of the facts whose scores are not looked at, the lowest.
    """
    high = float(other.max())
    low = min(low for side in (facts, own) if (low := _lowest(side, miss_rate)) is not None)
    return high + TOPIC_ROOM * (low - high) if high < low else low


def _lowest(scores: Tensor, miss_rate: float) -> float | None:
    present = scores[scores > NOWHERE / 2].double()
    return float(torch.quantile(present, miss_rate)) if len(present) else None
