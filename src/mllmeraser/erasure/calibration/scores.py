"""Scores of captured prompts at the gates for name, topic and face, a block of states at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates import NO_SITE, Gate
from mllmeraser.erasure.states.moments import blocks
from mllmeraser.erasure.states.prompt_states import PromptStates

Gates = tuple[Gate, Gate, Gate]
"""Gates for name, topic and face."""


def scores_of(gates: Gates, prompts: Sequence[PromptStates]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of prompts at the three gates, (n, subjects) each; `NO_SITE` where a prompt has nothing to read."""
    name, topic, face = gates
    last = torch.stack([prompt.last for prompt in prompts]) if prompts else torch.empty(0, topic.width)
    return _highest(name, (p.text for p in prompts)), topic.scores(last), _highest(face, (p.image for p in prompts))


def _highest(gate: Gate, states: Iterable[Tensor]) -> Tensor:
    """(n, subjects) highest score of each subject over the positions (positions, d) of each prompt."""
    parts = [torch.empty(0, gate.subjects, dtype=gate.tensors["scale"].dtype)]
    for block in blocks(states, gate.width):
        highest = torch.full((len(block), gate.subjects), NO_SITE, dtype=parts[0].dtype)
        if sizes := [len(rows) for rows in block if len(rows)]:
            present = torch.tensor([i for i, rows in enumerate(block) if len(rows)])
            prompt = torch.repeat_interleave(present, torch.tensor(sizes))
            scores = gate.scores(torch.cat(block))
            highest = highest.scatter_reduce(0, prompt[:, None].expand_as(scores), scores, "amax", include_self=True)
        parts.append(highest)
    return torch.cat(parts)
