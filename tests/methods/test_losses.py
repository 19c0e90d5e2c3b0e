"""Every formula against a value worked out by hand or by plain arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.methods.losses import (
    gradient_ascent,
    kl_divergence,
    mean_nll,
    npo,
    sequence_nll,
    token_counts,
    token_nll,
    weighted_sum,
)
from mllmeraser.models.prompts import IGNORED

# Two rows over a vocabulary of two; log-odds 0, log 3, log 3 make probabilities 1/2, 3/4, 1/4.
LOGITS = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]], [[math.log(3), 0.0], [9.0, 9.0]]])
TARGETS = torch.tensor([[0, 0], [1, IGNORED]])
NLLS = [[math.log(2), math.log(4 / 3)], [math.log(4), 0.0]]


def test_token_sequence_and_mean_nll() -> None:
    assert torch.allclose(token_nll(LOGITS, TARGETS), torch.tensor(NLLS))
    assert token_counts(TARGETS).tolist() == [2, 1]
    assert torch.allclose(sequence_nll(LOGITS, TARGETS), torch.tensor([math.log(8 / 3), math.log(4)]))
    # the mean over three counted tokens, not over rows and not over the ignored one
    assert math.isclose(float(mean_nll(LOGITS, TARGETS)), (math.log(8 / 3) + math.log(4)) / 3, rel_tol=1e-6)


def test_gradient_ascent_and_the_weighted_sum() -> None:
    f, r = torch.tensor(2.0), torch.tensor(3.0)
    assert float(gradient_ascent(f)) == -2.0
    assert float(weighted_sum(gradient_ascent(f), r, 0.5, 2.0)) == 5.0
    assert float(weighted_sum(gradient_ascent(f), None, 0.5, 2.0)) == -1.0
    assert float(weighted_sum(None, r, 0.5, 2.0)) == 6.0
    with pytest.raises(ValueError):
        weighted_sum(None, None, 1.0, 1.0)


def test_kl_by_hand_and_its_direction() -> None:
    reference = torch.tensor([[[0.0, 0.0], [5.0, 0.0]]])  # 1/2, 1/2; the second position does not count
    ours = torch.tensor([[[math.log(3), 0.0], [0.0, 5.0]]])  # 3/4, 1/4
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    found = float(kl_divergence(reference, ours, torch.tensor([[0, IGNORED]])))
    assert math.isclose(found, expected, rel_tol=1e-5)
    other = float(kl_divergence(ours, reference, torch.tensor([[0, IGNORED]])))
    assert not math.isclose(found, other, rel_tol=1e-2)


def test_kl_is_per_token_not_per_row() -> None:
    reference, ours = torch.zeros(1, 4, 2), torch.tensor([math.log(3), 0.0]).expand(1, 4, 2)
    one = kl_divergence(reference[:, :1], ours[:, :1], torch.zeros(1, 1, dtype=torch.long))
    four = kl_divergence(reference, ours, torch.zeros(1, 4, dtype=torch.long))
    assert torch.allclose(one, four)


@given(st.integers(0, 2**31))
def test_kl_is_zero_for_identical_models_and_never_negative(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, 5, generator=g) * 3, torch.randn(2, 3, 5, generator=g) * 3
    targets = torch.tensor([[1, 2, IGNORED], [0, 0, 4]])
    assert float(kl_divergence(a, a, targets)) == 0.0
    assert float(kl_divergence(a, b, targets)) > -1e-6


def test_npo_by_hand() -> None:
    nll, reference = torch.tensor([1.0, 4.0]), torch.tensor([3.0, 2.0])  # Delta = 2 and -2
    expected = (2 / 0.5) * (math.log(1 + math.exp(1.0)) + math.log(1 + math.exp(-1.0))) / 2
    assert math.isclose(float(npo(nll, reference, 0.5)), expected, rel_tol=1e-6)
    averaged = (2 / 0.5) * (math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-0.25))) / 2
    assert math.isclose(float(npo(nll, reference, 0.5, torch.tensor([2, 4]))), averaged, rel_tol=1e-6)
    assert math.isclose(float(npo(nll, nll, 0.1)), 20 * math.log(2), rel_tol=1e-6)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=5))
def test_npo_tends_to_ascent_as_beta_tends_to_zero(values: list[float]) -> None:
    nll = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    reference = torch.full_like(nll, 5.0).detach()
    (preference,) = torch.autograd.grad(npo(nll, reference, 1e-7), nll)
    (ascent,) = torch.autograd.grad(gradient_ascent(nll.mean()), nll)
    assert torch.allclose(preference, ascent, atol=1e-5)


def test_npo_saturates_where_ascent_does_not() -> None:
    nll = torch.tensor([500.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(npo(nll, torch.zeros(1), 0.1), nll)
    assert abs(float(gradient)) < 1e-12
