"""The name gate: a `SubjectGate` that may also know other forms of a name, such as the first name alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mllmeraser.erasure.gates.base import SUBJECTS, Gate, TensorSpec, in_steps
from mllmeraser.erasure.gates.subject import SHORTEST, SubjectGate, rivalry
from mllmeraser.erasure.gates.topic import TopicGate

ABSENT = 4.0
"""Bound of a form that does not count: no cosine is larger."""


class NameGate(SubjectGate):
    """Cosines with the subjects' means, or with those of other forms of their names less the bound of each form.

    Each form competes with the word nearest to it.
    """

    TENSORS: ClassVar[tuple[TensorSpec, ...]] = (
        *SubjectGate.TENSORS,
        TensorSpec("forms", (SUBJECTS, "forms", "rank"), steps=True, optional=True),
        TensorSpec("form_rivals", (SUBJECTS, "forms", "rank"), steps=True, optional=True),
        TensorSpec("form_bounds", (SUBJECTS, "forms"), optional=True),
    )

    @classmethod
    def at_layer(cls, position: int) -> type[Gate]:
        """The gates of one decision, by read layer: name, topic, face."""
        kinds: tuple[type[Gate], ...] = (NameGate, TopicGate, SubjectGate)
        return kinds[position]

    def scores(self, states: Tensor) -> Tensor:
        """(n, subjects) as for any gate; where a form fits better, by how much it exceeds its bound."""
        scores = super().scores(states)
        if "forms" not in self.tensors:
            return scores
        return torch.maximum(scores, (self.form_scores(states) - self.tensors["form_bounds"]).amax(-1))

    @property
    def form_bounds(self) -> Tensor | None:
        """(subjects, forms) bounds, `ABSENT` for a form that does not count; None without forms."""
        return self.tensors.get("form_bounds")

    @property
    def counted_forms(self) -> int:
        """Forms that count, of all subjects."""
        return 0 if self.form_bounds is None else int((self.form_bounds < ABSENT).sum())

    def with_form_bounds(self, bounds: Tensor) -> NameGate:
        """The same gate with other bounds (subjects, forms)."""
        return self.with_tensors(form_bounds=bounds.to(self.tensors["forms"]))

    def form_scores(self, states: Tensor) -> Tensor:
        """(n, subjects, forms) cosines of states (n, d) with the forms, less what their rivals take."""
        t = self.tensors
        seen = normalize(self.projected(states.to(t["scale"])), dim=-1, eps=SHORTEST)
        own, nearest = (
            (seen @ t[name].flatten(0, 1).T).unflatten(-1, t["form_bounds"].shape) for name in ("forms", "form_rivals")
        )
        return rivalry(own, nearest, self.settings.subject.rivalry)

    def with_forms(self, forms: Tensor, rivals: Tensor) -> NameGate:
        """The same gate with unit vectors (subjects, forms, rank) of forms and of their rivals; no form counts yet."""
        bounds = forms.new_full(forms.shape[:2], ABSENT)
        return self.with_tensors(forms=in_steps(forms), form_rivals=in_steps(rivals), form_bounds=bounds)
