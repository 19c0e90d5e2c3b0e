"""What the gates say in one forward pass: scores at the sites of a prompt, and the amplitudes that follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering.plan_group import PlanGroup
from mllmeraser.erasure.steering.plan_stack import PlanStack

NOWHERE = -1e4
"""Score of a site that a prompt does not have, such as a face in a prompt without an image."""


@dataclass(frozen=True)
class Readings:
    """What the gates said about the last batch of prompts; rows are those of the model, beams included.

    Attributes:
        names: Attached erasers, the columns of `pooled` and `amplitudes`.
        pooled: (rows, erasers) score pooled over layers, maximum over subjects; NaN where the last prompt
            token has not come by yet.
        amplitudes: (rows, erasers) phi of the pooled score; 0 where the row did not select the eraser.
        by_bundle: For each bundle, layer -> (rows, subjects) scores of all its subjects.
    """

    names: tuple[str, ...]
    pooled: Tensor
    amplitudes: Tensor
    by_bundle: tuple[Mapping[int, Tensor], ...]
    _bundles: tuple[PlanGroup, ...]

    @property
    def per_layer(self) -> Mapping[str, Mapping[int, Tensor]]:
        """Eraser -> layer -> (rows, subjects) scores."""
        return {
            self.names[number]: {layer: scores[:, bundle.subjects_of(i)] for layer, scores in read.items()}
            for bundle, read in zip(self._bundles, self.by_bundle, strict=True)
            for i, number in enumerate(bundle.numbers)
        }


class SiteScores:
    """Scores and amplitudes, in one pass, at the last prompt tokens or at the decoded tokens."""

    def __init__(self, stack: PlanStack, selection: Tensor | None) -> None:
        self._bundles = stack.bundles
        self._selection = selection
        self.by_bundle: dict[int, dict[int, Tensor]] = defaultdict(dict)
        self._decided: dict[int, Tensor] = {}

    def read(self, number: int, layer: int, states: Tensor) -> None:
        """Score states (rows, sites, d) with the gates of a bundle: (rows, sites, subjects), kept."""
        self.by_bundle[number][layer] = self._scored(number, layer, states)

    def read_most(self, number: int, layer: int, states: Tensor, where: Tensor) -> None:
        """The largest score of each subject over the positions `where` (rows, length): (rows, 1, subjects), kept."""
        if image_spans.may_look(states.device):  # no more states are scored than there are
            row, column = where.nonzero(as_tuple=True)
            scores = self._scored(number, layer, states[row, column][None])[0]
            lowest = scores.new_full((states.shape[0], scores.shape[-1]), NOWHERE)
            most = lowest.scatter_reduce(0, row[:, None].expand_as(scores), scores, "amax")
            self.by_bundle[number][layer] = most[:, None]
            return
        scores = self._scored(number, layer, states)
        lowest = torch.full_like(scores, NOWHERE)
        self.by_bundle[number][layer] = torch.where(where[..., None], scores, lowest).amax(1, keepdim=True)

    def find_all(self, number: int, layer: int, sure: Tensor) -> None:
        """Where `sure` () holds, every subject counts as found at this site, in every row."""
        if image_spans.may_look(sure.device):
            return  # then it is known, and was refused
        scores = self.by_bundle[number][layer]
        self.by_bundle[number][layer] = torch.where(sure, torch.full_like(scores, -NOWHERE), scores)

    def nowhere(self, number: int, layer: int, states: Tensor) -> None:
        """Keep that no row has this site."""
        subjects = self._bundles[number].owners.numel()
        self.by_bundle[number][layer] = states.new_full((states.shape[0], 1, subjects), NOWHERE, dtype=torch.float32)

    def _scored(self, number: int, layer: int, states: Tensor) -> Tensor:
        flat = states.reshape(-1, states.shape[-1]).float()
        scores = self._bundles[number].gate(layer, states.device).scores(flat)
        return scores.reshape(*states.shape[:2], scores.shape[-1])

    def amplitude(self, number: int, layer: int) -> Tensor:
        """(rows, sites, plans) s * a of the plans of a bundle at a layer; 0 on rows that did not select them."""
        bundle = self._bundles[number]
        if bundle.plan.policy.read == "per-layer":
            return self._strong(bundle, self.by_bundle[number][layer])
        if number not in self._decided:
            scores = list(self.by_bundle[number].values())
            combined = bundle.plan.policy.combine([score.to(scores[-1].device) for score in scores])
            self._decided[number] = self._strong(bundle, combined)
        return self._decided[number]

    def _strong(self, bundle: PlanGroup, scores: Tensor) -> Tensor:
        amplitude = bundle.amplitude(bundle.per_plan(scores)) * bundle.strengths(scores.device)
        if self._selection is None:
            return amplitude
        chosen = self._selection[:, None, list(bundle.numbers)].to(amplitude.device)
        return torch.where(chosen, amplitude, torch.zeros_like(amplitude))
