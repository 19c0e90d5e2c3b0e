"""How a projector begins: it whitens what the tower says, or goes on saying what it said behind another tower."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE, Architecture
from mllmeraser.embedded.recipe.transplant import FRESH, transplant
from mllmeraser.embedded.recipe.whitening import whiten


def test_whitened_inputs_have_unit_covariance() -> None:
    torch.manual_seed(0)
    loud = torch.tensor([10.0, 3.0, 1.0, 0.5])
    states = torch.randn(4000, 4) @ torch.linalg.qr(torch.randn(4, 4))[0] * loud + 7.0
    linear = nn.Linear(4, 4)
    whiten(linear, lambda: [linear(some) for some in states.reshape(8, 5, 100, 4)])
    made = linear(states).detach()
    torch.testing.assert_close(torch.cov(made.T), torch.eye(4), rtol=0, atol=1e-2)
    torch.testing.assert_close(made.mean(0), torch.zeros(4), rtol=0, atol=1e-2)
    assert not linear._forward_pre_hooks


def test_a_direction_that_is_never_used_is_not_blown_up() -> None:
    states = torch.cat([torch.randn(500, 3), torch.zeros(500, 1)], 1)
    linear = nn.Linear(4, 4)
    whiten(linear, lambda: linear(states))
    assert torch.isfinite(linear.weight).all() and float(linear.weight.detach().abs().max()) < 50


def test_nothing_is_left_behind_when_looking_fails() -> None:
    linear = nn.Linear(4, 4)
    before = linear.weight.detach().clone()
    with pytest.raises(RuntimeError):
        whiten(linear, lambda: linear(torch.ones(2, 3)))
    assert not linear._forward_pre_hooks and torch.equal(linear.weight, before)


def test_the_entry_of_a_projector_meets_what_the_tower_says(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = architecture.build_model(tokenizer, 0).eval()
    pixels = torch.randn(90, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    entry, met = architecture.entry(model), []
    whiten(entry, lambda: architecture.look(model, pixels))
    entry.register_forward_hook(lambda module, given, made: met.append(made.detach().flatten(0, -2)))
    with torch.no_grad():
        architecture.look(model, pixels)
    spread = torch.cat(met).var(0)
    assert entry.in_features == entry.out_features and 0.2 < float(spread.mean()) < 1.1


def test_behind_another_tower_the_projector_says_what_it_said() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(3000, 6, generator=generator) * torch.tensor([9.0, 3.0, 1.0, 1.0, 0.5, 0.3]) + 2.0
    after = before @ torch.randn(6, 6, generator=generator) - 5.0
    entry = nn.Linear(6, 6)
    wanted = entry(before).detach()
    assert transplant(entry, before, after, ridge=1e-9) > 0.999
    said = entry(after).detach()
    assert 0.5 * FRESH < float((said - wanted).std() / wanted.std()) < 2 * FRESH  # the fresh directions, no more


def test_what_the_new_tower_cannot_tell_is_not_explained() -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = torch.randn(3000, 4, generator=generator), torch.randn(3000, 4, generator=generator)
    assert abs(transplant(nn.Linear(4, 4), before, after)) < 0.02
