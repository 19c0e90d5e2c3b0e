"""Scores of captured prompts at the gates for name, topic and face, a block of states at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates import NO_SITE, Gate, NameGate
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
    return _largest(gate, gate.scores, gate.subjects, states)


def form_scores(gate: NameGate, prompts: Sequence[PromptStates]) -> Tensor:
    """(n, subjects, forms) highest score of each form over the words of each prompt."""
    assert gate.form_bounds is not None
    shape = gate.form_bounds.shape
    found = _largest(gate, lambda some: gate.form_scores(some).flatten(1), shape.numel(), (p.text for p in prompts))
    return found.unflatten(-1, shape)


def _largest(gate: Gate, score: Callable[[Tensor], Tensor], columns: int, states: Iterable[Tensor]) -> Tensor:
    """(n, columns) largest `score` over the positions (positions, d) of each prompt."""
    parts = [torch.empty(0, columns, dtype=gate.tensors["scale"].dtype)]
    for block in blocks(states, gate.width):
        highest = torch.full((len(block), columns), NO_SITE, dtype=parts[0].dtype)
        if sizes := [len(rows) for rows in block if len(rows)]:
            present = torch.tensor([i for i, rows in enumerate(block) if len(rows)])
            prompt = torch.repeat_interleave(present, torch.tensor(sizes))
            scores = score(torch.cat(block))
            highest = highest.scatter_reduce(0, prompt[:, None].expand_as(scores), scores, "amax", include_self=True)
        parts.append(highest)
    return torch.cat(parts)
