"""Every family reads a question in a conversation as it reads the question alone, or is known not to."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from family_kit import model_of
from zoo import ZOO

sys.path.insert(0, str(Path(__file__).parents[1] / "erasure"))

from test_conversation import ASKED, never_requests, plan_of, read

from mllmeraser.models.turns import turn_format
from mllmeraser.samples.conversation import Turn, after

ONE_TURN = {"paligemma", "mllama"}
"""Families whose chat format here takes one question."""
RECURRENT = {"qwen3.5"}
"""Families whose layers carry earlier turns along in a state (docs/limits.md)."""
EARLIER = [
    Turn("user", "Hello!"),
    Turn("assistant", "Good day."),
    Turn("user", "Who sang?"),
    Turn("assistant", "A bird."),
]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("asked", ASKED[:2], ids=["by name", "by picture"])
def test_a_question_in_a_conversation_is_read_as_alone(name: str, asked) -> None:
    model = model_of(name)
    assert (turn_format(model.processor) is None) == (name in ONE_TURN)
    if name in ONE_TURN:
        pytest.skip("its chat format takes one question")
    plan = never_requests(model, plan_of(model))
    alone, there = read(model, plan, asked), read(model, plan, after(EARLIER, asked))
    same = all(torch.allclose(there[layer], scores, atol=2e-3, rtol=2e-3) for layer, scores in alone.items())
    assert same == (name not in RECURRENT)
    if not same:  # then every prompt counts as one question, as without marks
        blind = read(model, replace(plan, turns=None), after(EARLIER, asked))
        assert all(torch.equal(blind[layer], there[layer]) for layer in there)
