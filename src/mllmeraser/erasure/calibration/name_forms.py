"""Bounds of the other forms of a name: above all other words. A form that would then be missed does not count."""

from __future__ import annotations

import torch
from torch import Tensor

from mllmeraser.erasure.calibration.scores import form_scores
from mllmeraser.erasure.gates import NameGate
from mllmeraser.erasure.gates.conformal import conformal_threshold
from mllmeraser.erasure.gates.name import ABSENT
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.subject_states import SubjectStates


def with_form_bounds(gate: NameGate, states: SubjectStates, settings: GateSettings) -> tuple[NameGate, Tensor]:
    """The gate with a bound for every form, and the false-alarm rate (subjects,) that the forms of a subject keep.

    The bound lies above the background, by a share of the gap to the form's own lowest score if there is a gap. Then
    calibration prompts raise the bounds of a subject together: a fresh one exceeds any of them with a probability of at
    most 1 / (n + 1). A form counts if it exceeds its bound in half of the sentences held out for it.
    """
    rates = torch.zeros(gate.subjects, dtype=torch.float64)
    if gate.form_bounds is None:
        return gate, rates
    others = [*(states.retain + states.strangers).by_name().states, *states.other_forms.states]
    noise, (lowest, middle) = form_scores(gate, others).amax(0).double(), _own(gate, states)
    bounds = noise + settings.subject.margin * (lowest - noise).clamp_min(0.0)
    bounds = torch.where(middle > bounds, bounds, ABSENT)
    calibration = form_scores(gate, states.calibration.asking().states).double()
    rate = 1 / (len(calibration) + 1)
    for row, mine in enumerate(bounds):
        mine += max(0.0, conformal_threshold((calibration[:, row] - mine).amax(-1), rate))
        mine[middle[row] <= mine] = ABSENT
        rates[row] = rate if bool((mine < ABSENT).any()) else 0.0
    return gate.with_form_bounds(bounds), rates


def _own(gate: NameGate, states: SubjectStates) -> tuple[Tensor, Tensor]:
    """(subjects, forms) lowest and middle score of each form in the sentences held out for it; -inf for none."""
    assert gate.form_bounds is not None
    lowest, middle = (torch.full_like(gate.form_bounds, -torch.inf, dtype=torch.float64) for _ in range(2))
    for row, own in enumerate(states.forms.values()):
        for column, rows in enumerate(own.values()):
            scores = form_scores(gate, rows.held_out().states)[:, row, column].double()
            ranked = scores.sort().values
            lowest[row, column], middle[row, column] = ranked[0], ranked[len(ranked) // 2]
    return lowest, middle
