"""Every clause of the contract detects a model that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from family_kit import SAMPLES
from transformers import BatchFeature
from zoo import build

from mllmeraser.models import MultimodalModel, capture, contract
from mllmeraser.models.capture import hidden_of


@pytest.fixture
def model() -> MultimodalModel:
    return build("llava")


def broken(model: MultimodalModel) -> dict[str, str]:
    return {name: result.detail for name, result in contract.run(model, SAMPLES).items() if not result.holds}


def encoding(model: MultimodalModel, change: Callable[[BatchFeature], Any]) -> None:
    plain = model.encode

    def encode(*args: Any, **options: Any) -> BatchFeature:
        batch = plain(*args, **options)
        change(batch)
        return batch

    model.encode = encode  # type: ignore[method-assign]


def test_nothing_is_broken_as_it_is(model: MultimodalModel) -> None:
    assert broken(model) == {}


def test_padding_that_is_looked_at(model: MultimodalModel) -> None:
    real = capture.last_token
    encoding(model, lambda batch: batch.update(seen=batch["attention_mask"].clone()))
    encoding(model, lambda batch: batch["attention_mask"].fill_(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "last_token", lambda inputs: real({**inputs, "attention_mask": inputs.pop("seen")}))
        found = contract._run(contract.CLAUSES[3], model, SAMPLES)
    assert not found.holds and "differ by" in found.detail


def test_a_cache_that_forgets(model: MultimodalModel) -> None:
    """Rows decode as if their padding were part of the prompt."""
    encoding(model, lambda batch: batch["attention_mask"].fill_(1))
    found = broken(model)
    assert "decoded logits differ" in found["cached decoding"]
    assert "differ by" in found["mixed batch"]


def test_blocks_that_are_not_those_of_the_model(model: MultimodalModel) -> None:
    model.layers = copy.deepcopy(model.layers)
    found = broken(model)
    assert found["decoder"].startswith("block 0 gave []")
    assert {"hook exact", "left padding", "right padding"} <= set(found)


def test_blocks_of_the_tower(model: MultimodalModel) -> None:
    """As deep as the decoder, and narrower."""
    model.layers = model.hf.model.vision_tower.encoder.layers
    assert broken(model)["decoder"].startswith("block 0 gave []"), "text alone never enters it"


def test_several_states_per_token(model: MultimodalModel) -> None:
    model.layers[1].register_forward_hook(lambda _m, _a, out: hidden_of(out)[:, :, None].expand(-1, -1, 2, -1))
    assert "only one state per token" in broken(model)["decoder"]


def test_an_edit_that_is_undone(model: MultimodalModel) -> None:
    """The next block starts from a copy taken before the hooks."""
    kept: list[torch.Tensor] = []
    block, following = model.layers[0], model.layers[1]
    block.register_forward_pre_hook(lambda _m, args: kept.clear() or kept.append(args[0].clone()))
    following.register_forward_pre_hook(lambda _m, args: (kept[0], *args[1:]))
    assert "changed nothing behind it" in broken(model)["hook exact"]


def test_image_positions_that_are_elsewhere(model: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model.family), "image_token_id", lambda *_: 3)
    assert "image positions" in broken(model)["image tokens"]


def test_a_family_that_mixes_against_its_word(model: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model.family), "mixes", False)
    assert "accepted, although" in broken(model)["mixed batch"]
