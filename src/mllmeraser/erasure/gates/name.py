"""The name gate: a `SubjectGate` that may also know other forms of a name, such as the first name alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mllmeraser.erasure.gates.base import SUBJECTS, Gate, TensorSpec
from mllmeraser.erasure.gates.subject import SHORTEST, DiscriminantBasis, SubjectGate, short
from mllmeraser.erasure.gates.topic import TopicGate

ABSENT = 4.0
"""Bound of a form that does not count: no cosine is larger."""


class NameGate(SubjectGate):
    """Cosines with the subjects' means, or with those of other forms of their names less the bound of each form."""

    TENSORS: ClassVar[tuple[TensorSpec, ...]] = (
        *SubjectGate.TENSORS,
        TensorSpec("forms", (SUBJECTS, "forms", "rank"), half=True, optional=True),
        TensorSpec("form_bounds", (SUBJECTS, "forms"), optional=True),
    )

    @classmethod
    def at_layer(cls, position: int) -> type[Gate]:
        """The gates of one decision, by read layer: name, topic, face."""
        kinds: tuple[type[Gate], ...] = (NameGate, TopicGate, SubjectGate)
        return kinds[position]

    def scores(self, states: Tensor) -> Tensor:
        """(n, subjects) as for any gate; where a form fits better, by how much its cosine exceeds its bound."""
        scores = super().scores(states)
        if "forms" not in self.tensors:
            return scores
        return torch.maximum(scores, (self.cosines(states) - self.tensors["form_bounds"]).amax(-1))

    @property
    def counted_forms(self) -> int:
        """Forms that count, of all subjects."""
        return int((self.tensors["form_bounds"] < ABSENT).sum()) if "forms" in self.tensors else 0

    def cosines(self, states: Tensor) -> Tensor:
        """(n, subjects, forms) cosines of states (n, d) with the forms."""
        t = self.tensors
        states = states.to(t["scale"])
        projected = torch.addmm(-(t["centre"] @ t["projection"]), states, t["projection"])
        return (normalize(projected, dim=-1, eps=SHORTEST) @ t["forms"].flatten(0, 1).T).unflatten(
            -1, t["form_bounds"].shape
        )

    def with_forms(self, basis: DiscriminantBasis, means: list[list[Tensor | None]]) -> NameGate:
        """The same gate with the mean states (d,) of each subject's forms, None for one to leave out; none counts yet.

        Every subject has the same number of forms.
        """
        none = torch.zeros_like(basis.projection[0])
        rows = [torch.stack([none if mean is None else basis.unit(mean) for mean in own]) for own in means]
        forms = short(torch.stack(rows))
        return self.with_tensors(forms=forms, form_bounds=forms.new_full(forms.shape[:2], ABSENT))
