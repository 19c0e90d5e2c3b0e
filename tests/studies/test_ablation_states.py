"""States that are kept are those that the model would give again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from ablation_kit import TAIL, SmallLab
from worlds import close

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.studies.ablation.edits import Open, Strength
from mllmeraser.studies.ablation.lab import StateCachingModel


def test_a_prompt_is_read_once_and_every_layer_is_known(
    tiny_model: MultimodalModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = StateCachingModel(tiny_model)
    with torch.no_grad():  # afterwards transformers leaves its own hooks on every block
        tiny_model.hf(**tiny_model.encode(samples[:1]), output_hidden_states=True)
    read: list[int] = []
    encode = MultimodalModel.encode

    def counted(self: Any, rows: Sequence[Sample], padding_side: str = "left") -> Any:
        read.append(len(rows))
        return encode(self, rows, padding_side)

    monkeypatch.setattr(MultimodalModel, "encode", counted)
    first = model.states(samples[:4], model.hookpoints([1]))
    assert sum(read) == 4
    again = model.states([samples[5], samples[2], samples[0]], model.hookpoints([0, 1]))
    assert sum(read) == 5, "only the one that had not been read"
    assert torch.equal(again[model.hookpoints([1])[0]][1:], first[model.hookpoints([1])[0]][[2, 0]])
    monkeypatch.undo()
    fresh = tiny_model.states([samples[5], samples[2], samples[0]], tiny_model.hookpoints([0, 1]))
    for point, states in fresh.items():
        close(again[point], states, 1e-4)
    assert model.states([], model.hookpoints([0]))[model.hookpoints([0])[0]].shape == (0, model.hidden_size)


def test_states_of_a_steered_model_are_neither_kept_nor_taken(
    tiny_llava: MultimodalModel, samples: list[Sample]
) -> None:
    model, points = StateCachingModel(tiny_llava), tiny_llava.hookpoints()
    lab = SmallLab(tiny_llava)
    eraser = Strength(5.0)(Open()(lab.fitted(TAIL), lab), lab)
    bare = model.states(samples, points)
    with eraser.attached(model):
        steered = model.states(samples, points)
    last = points[-1]
    assert not torch.allclose(steered[last], bare[last], atol=0.1)
    assert torch.equal(model.states(samples, points)[last], bare[last])
    other = StateCachingModel(tiny_llava)
    with eraser.attached(other):
        other.states(samples, points)
    close(other.states(samples, points)[last], bare[last], 1e-4)
