"""Scores of captured prompts at the gates of an identity decision, a block of states at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates import Gate
from mllmeraser.erasure.states.moments import blocks
from mllmeraser.erasure.states.prompt_states import PromptStates
from mllmeraser.erasure.steering.site_scores import NOWHERE

Gates = tuple[Gate, Gate, Gate]
"""Those of name, topic and face."""


def scores_of(gates: Gates, seen: Sequence[PromptStates]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of prompts at the three gates, (n, subjects) each, ``NOWHERE`` where a prompt has no such site."""
    name, topic, face = gates
    asked = topic.scores(torch.stack([a.last for a in seen]) if seen else torch.empty(0, topic.width))
    return _most(name, (a.text for a in seen)), asked, _most(face, (a.image for a in seen))


def _most(gate: Gate, states: Iterable[Tensor]) -> Tensor:
    """(n, subjects) largest score of each subject over the positions (positions, d) of each prompt."""
    parts = [torch.empty(0, gate.subjects, dtype=gate.tensors["scale"].dtype)]
    for block in blocks(states, gate.width):
        found = torch.full((len(block), gate.subjects), NOWHERE, dtype=parts[0].dtype)
        if sizes := [len(rows) for rows in block if len(rows)]:
            there = torch.tensor([i for i, rows in enumerate(block) if len(rows)])
            prompt = torch.repeat_interleave(there, torch.tensor(sizes))
            scores = gate.scores(torch.cat(block))
            found = found.scatter_reduce(0, prompt[:, None].expand_as(scores), scores, "amax", include_self=True)
        parts.append(found)
    return torch.cat(parts)
