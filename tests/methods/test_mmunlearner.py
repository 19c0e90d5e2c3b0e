"""MMUnlearner: importance by hand, masks that cover something, weights outside them that stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_kit import assert_same, quick, request, snapshot
from torch import nn

from mllmeraser.methods import WeightProduct, load_method
from mllmeraser.methods.mmunlearner import (
    MMUnlearner,
    MMUnlearnerSettings,
    check_masks,
    fisher_information,
    importance_masks,
    part_parameters,
)
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError

VISION = MMUnlearnerSettings().vision_names


def test_importance_is_the_mean_over_batches_of_the_squared_gradient() -> None:
    weight, unused = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([5.0]))
    losses = [lambda: (weight * torch.tensor([1.0, 3.0])).sum(), lambda: (weight * torch.tensor([3.0, 1.0])).sum()]
    found = fisher_information({"weight": weight, "unused": unused}, losses)
    assert found["weight"].tolist() == [5.0, 5.0] and found["unused"].tolist() == [0.0]
    with pytest.raises(InputError):
        fisher_information({"weight": weight}, [])


def test_masks_by_hand() -> None:
    forget, preserve = {"w": torch.tensor([4.0, 1.0, 0.0, 1.0])}, {"w": torch.tensor([2.0, 2.0, 0.0, 0.0])}
    assert importance_masks(forget, preserve, 1.0)["w"].tolist() == [True, False, True, True]
    assert importance_masks(forget, preserve, 2.5)["w"].tolist() == [False, False, False, True]
    assert check_masks(importance_masks(forget, preserve, 1.0), "vision") == 0.75


@pytest.mark.parametrize("value", [True, False])
def test_a_mask_of_none_or_all_is_refused(value: bool) -> None:
    with pytest.raises(InputError, match="all" if value else "none"):
        check_masks({"w": torch.full((3,), value)}, "vision")


def test_parts_share_nothing_and_leave_nothing_out(tiny_model: MultimodalModel) -> None:
    vision = set(part_parameters(tiny_model.hf, "vision", VISION))
    language = set(part_parameters(tiny_model.hf, "language", VISION))
    assert not vision & language and vision | language == {name for name, _ in tiny_model.hf.named_parameters()}
    assert all("layers" not in name or "language_model" not in name for name in vision)


@pytest.mark.parametrize("variant", ["vision", "language"])
def test_names_that_match_nothing_are_refused(tiny_llava: MultimodalModel, variant: str) -> None:
    before = snapshot(tiny_llava)
    settings = quick(variant=variant, vision_names=["tower_of_nobody"])
    with pytest.raises(InputError, match="vision part"):
        MMUnlearner().make(tiny_llava, request(), settings=settings)
    assert_same(tiny_llava, before)


@pytest.mark.parametrize("beta", [1e-35, 1e35])
def test_a_beta_that_masks_everything_or_nothing_is_refused(tiny_llava: MultimodalModel, beta: float) -> None:
    before = snapshot(tiny_llava)
    with pytest.raises(InputError, match="mask covers"):
        MMUnlearner().make(tiny_llava, request(), settings=quick(beta=beta))
    assert_same(tiny_llava, before)


def masks_of(model: MultimodalModel, settings: MMUnlearnerSettings) -> dict[str, torch.Tensor]:
    from mllmeraser.methods.trainable import borrowed

    method = MMUnlearner()
    with borrowed(model.hf):
        return method.prepare(model, method.data(model, request(), settings, 0), settings)


@pytest.mark.parametrize("variant", ["vision", "language", "both"])
def test_weights_outside_the_mask_keep_their_bits(tiny_model: MultimodalModel, variant: Any) -> None:
    before = snapshot(tiny_model)
    settings = MMUnlearnerSettings.model_validate(quick(variant=variant))
    made = MMUnlearner().make(tiny_model, request(), settings=settings)
    assert isinstance(made, WeightProduct)
    assert_same(tiny_model, before)
    masks, own = masks_of(tiny_model, settings), dict(tiny_model.hf.named_parameters())
    parts = ["vision", "language"] if variant == "both" else [variant]
    assert {name for name in made.config.measures if name.startswith("mask")} == {f"mask_share_{p}" for p in parts}
    assert all(0 < made.config.measures[f"mask_share_{part}"] < 1 for part in parts)
    assert set(made.tensors) <= set(masks)
    for name, tensor in made.tensors.items():
        assert torch.equal(tensor[~masks[name]], own[name][~masks[name]])
    assert any(not torch.equal(tensor[masks[name]], own[name][masks[name]]) for name, tensor in made.tensors.items())


def test_as_published_weights_outside_the_mask_do_move(tiny_llava: MultimodalModel) -> None:
    settings = MMUnlearnerSettings.model_validate(quick(strict_mask=False))
    made = MMUnlearner().make(tiny_llava, request(), settings=settings)
    assert isinstance(made, WeightProduct)
    masks, own = masks_of(tiny_llava, settings), dict(tiny_llava.hf.named_parameters())
    assert any(not torch.equal(t[~masks[name]], own[name][~masks[name]]) for name, t in made.tensors.items())


def test_pictures_are_what_is_forgotten_and_text_what_is_preserved(tiny_llava: MultimodalModel) -> None:
    asked = request(forget=6)
    data = MMUnlearner().data(tiny_llava, asked, MMUnlearnerSettings(), 0)
    assert data.forget and all(item.sample.image is not None for item in data.forget)
    assert data.preserved and all(item.sample.image is None for item in data.preserved)
    assert len(data.forget) + len(data.preserved) == 6 and len(data.retain) == len(asked.retain)


def test_without_pictures_there_is_nothing_to_do(tiny_llava: MultimodalModel) -> None:
    with pytest.raises(InputError, match="pictured forget"):
        load_method("mmunlearner").make(tiny_llava, request(pictures=False), settings={"variant": "language"})
    with pytest.raises(InputError, match="retain samples with pictures"):
        load_method("mmunlearner").make(tiny_llava, request(pictures=False))
