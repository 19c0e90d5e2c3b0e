"""Moments and statistics are additive, mergeable, and exact in a file."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import cloud, layer_statistics, moments

from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import LayerStatistics, Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples import InputError, NumericalError

widths = st.integers(1, 12)
seeds = st.integers(0, 10_000)


def close(a: Moments, b: Moments, rtol: float = 1e-8) -> bool:
    scale = b.second.abs().max().clamp_min(1.0)
    return (
        a.n == b.n
        and bool(torch.allclose(a.total, b.total, rtol=rtol, atol=rtol * float(scale)))
        and bool(torch.allclose(a.second, b.second, rtol=rtol, atol=rtol * float(scale)))
    )


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), d=widths, seed=seeds, cut=st.floats(0.0, 1.0))
def test_merged_parts_equal_the_whole(n: int, d: int, seed: int, cut: float) -> None:
    states = cloud(n, d, seed, centre=3.0)
    at = int(cut * n)
    first, second = Moments.from_states(states[:at]), Moments.from_states(states[at:])
    assert close(first + second, Moments.from_states(states), 1e-12)


def test_float32_states_are_summed_in_float64() -> None:
    states = torch.full((1000, 1), 0.1, dtype=torch.float32)
    found = Moments.from_states(states)
    assert found.total.dtype == torch.float64
    assert abs(float(found.total) - 1000 * float(torch.tensor(0.1).double())) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_second_moments_are_exactly_symmetric_however_the_states_lie(dtype: torch.dtype) -> None:
    whole = cloud(90, 74, 0).to(dtype)
    for states in (whole, whole[::2], whole[:, ::2], whole.T, whole.clone().requires_grad_()):
        found = Moments.from_states(states).second
        rows = states.detach().double()
        assert torch.equal(found, found.T) and not found.requires_grad
        assert torch.allclose(found, torch.einsum("ni,nj->ij", rows, rows), rtol=1e-12, atol=1e-12)


def test_covariance_and_its_shrinkage() -> None:
    states = cloud(200, 5, 0, centre=2.0)
    found = Moments.from_states(states)
    plain = torch.cov(states.T, correction=0)
    assert torch.allclose(found.covariance(), plain, atol=1e-12)
    level = torch.diag(torch.full((5,), float(plain.diagonal().mean()), dtype=torch.float64))
    assert torch.allclose(found.covariance(1.0), level)
    assert torch.allclose(found.covariance(0.25), 0.75 * plain + 0.25 * level, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_states_that_are_not_finite_are_refused(bad: float) -> None:
    states = cloud(4, 3, 0)
    states[2, 1] = bad
    with pytest.raises(NumericalError):
        Moments.from_states(states)


def test_impossible_arithmetic_is_refused() -> None:
    with pytest.raises(InputError):
        moments(3, 4, 0) + moments(3, 5, 0)
    with pytest.raises(InputError):
        moments(3, 4, 0) + Moments.from_states(cloud(3, 4, 0), gram=False)
    with pytest.raises(InputError):
        _ = Moments.from_states(torch.empty(0, 4)).mean
    with pytest.raises(InputError):
        _ = Moments.from_states(cloud(3, 4, 0), gram=False).second


def test_without_drops_every_group_of_a_subject_and_no_other() -> None:
    layer = layer_statistics(["a", "b"])
    idk = LayerStatistics({**layer.groups, "erase/b": moments(3, 8, 5), "erase": moments(3, 8, 6)})
    left = Statistics({HookPoint(1): idk}).without("b")
    assert left.subjects == ("a",)
    assert sorted(left[1].groups) == ["erase", "forget/a", "retain", "strangers"]
    with pytest.raises(InputError):
        left.without("b")


def test_merge_adds_groups_and_takes_over_new_subjects() -> None:
    one = Statistics({HookPoint(0): LayerStatistics({"retain": moments(5, 4, 0), "forget/a": moments(3, 4, 1)})})
    two = Statistics({HookPoint(0): LayerStatistics({"retain": moments(6, 4, 2), "forget/b": moments(2, 4, 3)})})
    both = one.merge(two)
    assert both.subjects == ("a", "b")
    assert close(both[0].retain, moments(5, 4, 0) + moments(6, 4, 2))
    assert Statistics().merge(one).subjects == ("a",)
    with pytest.raises(InputError):
        one.merge(Statistics({HookPoint(1): LayerStatistics()}))
