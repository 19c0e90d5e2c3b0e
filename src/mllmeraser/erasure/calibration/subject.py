"""Thresholds of the gate `subject`: each subject has its own for name, topic and face, and none depends on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.manifest import Calibration
from mllmeraser.erasure.calibration.decision import Decision, measure
from mllmeraser.erasure.calibration.name_forms import with_form_bounds
from mllmeraser.erasure.calibration.scores import Gates, scores_of
from mllmeraser.erasure.gates import DiscriminantBasis, NameGate
from mllmeraser.erasure.gates.conformal import conformal_threshold, lowest, prompts_needed, topic_threshold
from mllmeraser.erasure.gates.subject import rivalry
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.subject_states import SubjectStates

NEVER = 1.0
"""Threshold of a gate with nothing to read: no cosine is larger."""


def calibrate_subjects(
    gates: Gates,
    faces: DiscriminantBasis,
    about: Sequence[Sequence[str]],
    states: SubjectStates,
    settings: FitSettings,
    layers: Sequence[int],
) -> Decision:
    """Set every subject's thresholds on calibration prompts, and measure the decision on other prompts.

    `about` are the attributes to be forgotten of each subject, empty for all of them; `faces` is the basis of faces.
    """
    moved, rates = _with_thresholds(gates, faces, about, states, settings)
    fitted = [prompt for own in states.forget.values() for prompt in own.states]
    held = [prompt for own in states.held_out.values() for prompt in own.states] or fitted
    check, forget = (settings.policy.pool(scores_of(moved, rows)) for rows in (states.check.states, held))
    calibration = Calibration.model_validate(
        {
            "false_alarm_rate_asked": settings.false_alarm_rate,
            "false_alarm_rate_promised": min(1.0, float(rates.sum())),
            "n": len(states.calibration.asking()),
            **measure(check, forget, 0.0),
        }
    )
    return Decision(dict(zip(layers, moved, strict=True)), 0.0, None, calibration, rates)


def _with_thresholds(
    gates: Gates, faces: DiscriminantBasis, about: Sequence[Sequence[str]], states: SubjectStates, settings: FitSettings
) -> tuple[Gates, Tensor]:
    """The gates with every threshold at 0, and the false-alarm rate (subjects,) that each subject's thresholds keep."""
    name, topic, face = gates
    chosen, miss_rate = settings.gate.subject, settings.gate.miss_rate
    name_rate, face_rate = (share * settings.false_alarm_rate for share in (chosen.name_share, chosen.face_share))
    others = scores_of(gates, states.calibration.asking().states)
    prompts = list(states.measured().values())
    own = [scores_of(gates, rows.states) for rows in prompts]
    by_name = [torch.tensor([s.image is None for s in rows.samples], dtype=torch.bool) for rows in prompts]
    called = [scores[0][where, i] for i, (scores, where) in enumerate(zip(own, by_name, strict=True))]
    looks = [scores[2][~where, i] for i, (scores, where) in enumerate(zip(own, by_name, strict=True))]
    names = subject_thresholds(others[0], called, miss_rate, name_rate)
    common = _impostor_threshold(faces, states, face_rate, chosen.rivalry)
    if common is None:
        levels = subject_thresholds(others[2], looks, miss_rate, name_rate)
    else:
        levels = Levels.common(common, face_rate, len(own))
    topics = _topic_thresholds(gates, about, states, [scores[1] for scores in own], settings)
    moved = (
        name.above(with_margin(names.thresholds, called, miss_rate, chosen.margin)),
        topic.above(topics),
        face.above(with_margin(levels.thresholds, looks, miss_rate, chosen.margin)),
    )
    assert isinstance(moved[0], NameGate)
    called_otherwise, rates = with_form_bounds(moved[0], states, settings.gate)
    return (called_otherwise, *moved[1:]), names.rates + levels.rates + rates


def _topic_thresholds(
    gates: Gates, about: Sequence[Sequence[str]], states: SubjectStates, own: Sequence[Tensor], settings: FitSettings
) -> Tensor:
    """(subjects,) thresholds between questions for what is to be forgotten and all others; 0 without others."""
    thresholds, margin = [], settings.gate.subject.topic_margin
    for row, attributes in enumerate(about):
        other = states.calibration.asking(attributes, wanted=False)
        other = other if len(other) else states.retain.asking(attributes, wanted=False)
        if not len(other) or not bool(gates[1].tensors["weight"][row].any()):
            thresholds.append(0.0)
            continue
        wanted = states.calibration.asking(attributes)
        apart, facts = (scores_of(gates, some.states)[1][:, row] for some in (other, wanted))
        thresholds.append(topic_threshold(apart, facts, own[row][:, row], settings.gate.miss_rate, margin))
    return torch.tensor(thresholds, dtype=torch.float64)


def _impostor_threshold(faces: DiscriminantBasis, states: SubjectStates, rate: float, weight: float) -> float | None:
    people = [(person, own.double().mean(0)) for person, own in states.retain.faces().items()]
    facts = states.calibration.asking()
    pictures = [(s.subject, prompt.image) for s, prompt in zip(facts.samples, facts.states, strict=True)]
    return impostor_threshold(faces, people, pictures, rate, weight)


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


def subject_thresholds(scores: Tensor, own: Sequence[Tensor], miss_rate: float, rate: float) -> Levels:
    """Above the highest calibration score, or the conformal quantile at `rate` if that would miss forget prompts.

    Of n calibration prompts, a fresh one lies above the highest with a probability of at most 1 / (n + 1).

    Args:
        scores: (n, subjects) of the calibration prompts, `NO_SITE` where a prompt has nothing to read.
        own: For each subject the scores of its own prompts, held out from the fit.
        miss_rate: Share of the lowest own scores that are ignored.
        rate: Share of the calibration prompts that may lie above, where both overlap.
    """
    pairs = [_subject_threshold(scores[:, i], mine, miss_rate, rate) for i, mine in enumerate(own)]
    return Levels(*torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).T)


def _subject_threshold(scores: Tensor, own: Tensor, miss_rate: float, rate: float) -> tuple[float, float]:
    present = scores[torch.isfinite(scores)]
    if not len(present):
        return NEVER, 0.0
    least = 1 / (len(present) + 1)
    above, low = conformal_threshold(present, least), lowest(own, miss_rate)
    if low is None or low > above:
        return above, least
    return conformal_threshold(present, max(least, rate)), max(least, rate)


def impostor_threshold(
    basis: DiscriminantBasis,
    people: Sequence[tuple[str, Tensor]],
    pictures: Sequence[tuple[str | None, Tensor]],
    rate: float,
    weight: float,
) -> float | None:
    """The score that a picture of another person exceeds with probability `rate`; for `weight` see `rivalry`.

    Every retained person plays the subject in turn, the others are the competitors, and all pictures of others are the
    impostors. So there are far more scores than pictures, and one odd picture does not decide. The threshold is None if
    there are too few people or pictures for that rate.

    Args:
        basis: Of faces.
        people: Keys and (d,) mean states of retained people.
        pictures: For calibration prompts, the person shown and the (pictures, d) states.
    """
    if len(people) < 2:
        return None
    units = torch.stack([basis.unit(mean) for _, mean in people])
    shown = [key for key, rows in pictures for _ in rows]
    states = torch.cat([basis.centre.new_zeros(0, len(basis.centre)), *(rows.to(basis.centre) for _, rows in pictures)])
    cosines = basis.seen(states) @ units.T
    best = cosines.topk(2, dim=1)
    scores = []
    for column, (key, _) in enumerate(people):
        other = torch.tensor([person != key for person in shown], dtype=torch.bool)
        nearest = torch.where(best.indices[:, 0] == column, best.values[:, 1], best.values[:, 0])
        scores.append(rivalry(cosines[:, column], nearest, weight)[other])
    impostors = torch.cat(scores)
    return conformal_threshold(impostors, rate) if len(impostors) >= prompts_needed(rate) else None


def with_margin(thresholds: Tensor, own: Sequence[Tensor], miss_rate: float, margin: float) -> Tensor:
    """Thresholds (subjects,) raised by `margin` of the gap to the lowest held-out forget score, where that is higher.

    Words that calibration never saw may hold a token nearer to a name, and new faces may be nearer to a face. The
    promised false-alarm rate still holds. For `own` and `miss_rate` see `subject_thresholds`.
    """
    moved = thresholds.double().clone()
    for row, scores in enumerate(own):
        low = lowest(scores, miss_rate)
        if low is not None:
            moved[row] += margin * max(0.0, low - float(moved[row]))
    return moved
