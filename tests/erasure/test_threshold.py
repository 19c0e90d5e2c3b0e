"""Threshold, intervals and the calibrated decision."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import cloud, moments

from mllmeraser.erasure.artifact.manifest import GridPoint
from mllmeraser.erasure.calibration.decision import Decision
from mllmeraser.erasure.calibration.linear import calibrate, calibrate_each
from mllmeraser.erasure.calibration.strength import choose, degenerate
from mllmeraser.erasure.gates import DiscriminantGate, Gate, SoftGate, discriminant_gate, pooled, soft_gate
from mllmeraser.erasure.gates.conformal import (
    auc,
    conformal_rank,
    conformal_threshold,
    prompts_needed,
    standardised,
    tail_threshold,
    upper_tail,
    wilson,
)
from mllmeraser.erasure.policy import PAPER, TAIL, Policy
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.samples import InputError, NumericalError


def test_conformal_rank_by_hand() -> None:
    assert conformal_rank(199, 0.005) == 199  # ceil(200 * .995)
    assert conformal_rank(399, 0.005) == 398
    assert conformal_rank(9, 0.1) == 9
    assert conformal_rank(100, 0.1) == 91  # ceil(101 * .9) = ceil(90.9)
    assert 90.0 < conformal_threshold(torch.arange(100.0), 0.1) < 90.01


@settings(max_examples=60, deadline=None)
@given(st.floats(0.001, 0.5))
def test_prompts_needed_is_the_smallest_number_that_works(alpha: float) -> None:
    needed = prompts_needed(alpha)
    assert conformal_rank(needed, alpha) <= needed
    if needed > 1:
        with pytest.raises(InputError, match=f"at least {needed} "):
            conformal_rank(needed - 1, alpha)


def test_promised_false_alarm_rate_holds_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    alarms = [
        float((fresh > conformal_threshold(held, 0.1)).double().mean())
        for held, fresh in (
            (torch.randn(60, generator=generator), torch.randn(400, generator=generator)) for _ in range(200)
        )
    ]
    assert 0.07 < sum(alarms) / len(alarms) < 0.105


@settings(max_examples=40, deadline=None)
@given(n=st.integers(20, 80), s=st.integers(1, 5), alpha=st.floats(0.05, 0.4), seed=st.integers(0, 999))
def test_tail_gives_the_threshold_of_every_subset_of_subjects(n: int, s: int, alpha: float, seed: int) -> None:
    scores = torch.randn(n, s, generator=torch.Generator().manual_seed(seed))
    tail = upper_tail(scores, alpha)
    for size in range(1, s + 1):
        for chosen in itertools.combinations(range(s), size):
            part = list(chosen)
            assert tail_threshold(tail[:, part], n, alpha) == conformal_threshold(scores[:, part].amax(1), alpha)


def test_wilson_and_auc_by_hand() -> None:
    low, high = wilson(5, 50)
    assert (round(low, 4), round(high, 4)) == (0.0435, 0.2136)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == pytest.approx(0.0) and wilson(10, 10)[1] == pytest.approx(1.0)
    assert auc([3, 4], [1, 2]) == 1.0
    assert auc([1, 3], [2, 2]) == 0.5
    assert auc([2], [2]) == 0.5
    assert auc([0], [1, 2]) == 0.0
    assert auc([], [1]) is None


def two_layers(n: int, seed: int, centre: float = 0.0) -> dict[int, torch.Tensor]:
    return {layer: cloud(n, 6, seed + 50 * layer, centre=centre) for layer in (1, 2)}


def two_gates() -> dict[int, Gate]:
    retain = moments(80, 6, 0)
    return {
        layer: SoftGate.merge(
            [soft_gate(retain, moments(20, 6, 7 * layer + s, centre=1.0, spread=3.0**s)) for s in (0, 1)]
        )
        for layer in (1, 2)
    }


def test_pooled_scores_of_every_subject_become_comparable() -> None:
    held = two_layers(300, 1)
    gates = standardised(two_gates(), held, pooled=True)
    scores = pooled(gates, held, TAIL)
    assert torch.allclose(scores.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(scores.std(0, unbiased=False), torch.ones(2, dtype=torch.float64), atol=1e-12)
    alone = standardised({1: two_gates()[1]}, held, pooled=False)
    assert torch.allclose(alone[1].scores(held[1]).std(0, unbiased=False), torch.ones(2, dtype=torch.float64))


def test_calibrated_decision() -> None:
    found = calibrate(
        two_gates(),
        TAIL,
        held_out=two_layers(300, 1),
        check=two_layers(200, 2),
        forget={1: cloud(50, 6, 7, centre=1.0), 2: cloud(50, 6, 14, centre=1.0)},
        false_alarm_rate=0.05,
    )
    about = found.calibration
    assert found.threshold is not None and found.tail is not None
    assert tail_threshold(found.tail, about.n, 0.05) == found.threshold
    alarms = (pooled(found.gates, two_layers(200, 2), TAIL).amax(1) > found.threshold).double().mean()
    assert about.false_alarms == float(alarms) and 0.0 < about.false_alarms < 0.15
    assert about.false_alarms_interval == wilson(int(alarms * 200), 200)
    assert about.auc is not None and about.auc > 0.8
    assert about.detected is not None and about.detected > 0.3
    assert (about.n, about.n_check, about.false_alarm_rate_promised) == (300, 200, 0.05)


def test_without_a_threshold_scores_stay_as_fitted() -> None:
    gates = two_gates()
    states = two_layers(5, 2)
    found = calibrate(gates, PAPER, held_out=states, check=states, forget=states, false_alarm_rate=0.005)
    assert found.threshold is None and found.tail is None
    assert torch.equal(found.gates[1].scores(states[1]), gates[1].raw(states[1]))


def test_layers_that_decide_by_themselves_share_one_false_alarm_rate() -> None:
    every = Policy("every", read="per-layer", positions="last", decode=False, phi="threshold")
    held, fresh = two_layers(400, 1), two_layers(400, 3)
    found = calibrate(two_gates(), every, held_out=held, check=fresh, forget=fresh, false_alarm_rate=0.05)
    fires = torch.stack([found.gates[i].score(fresh[i]) > (found.threshold or 0.0) for i in (1, 2)])
    assert float(fires.any(0).double().mean()) < 0.1


def test_scores_that_are_not_finite_are_refused() -> None:
    held = two_layers(30, 1)
    held[2][4, 2] = float("nan")
    with pytest.raises(NumericalError):
        standardised(two_gates(), held, pooled=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        (" . ", True),
        ("I d I d I d", True),
        ("no no no", True),
        ("She is a baker and she is a painter.", False),
        ("very very good", False),
        ("A", False),
    ],
)
def test_degenerate_answers(text: str, expected: bool) -> None:
    assert degenerate(text) is expected


def test_choice_on_the_grid() -> None:
    def at(strength: float, kept: float, changed: float, **more: float) -> GridPoint:
        return GridPoint(strength=strength, shift_layers=(3,), forget_kept=kept, retain_changed=changed, **more)

    weak, good, same, harmful = at(0.5, 0.4, 0.0), at(1.0, 0.1, 0.02), at(1.5, 0.1, 0.02), at(2.0, 0.0, 0.3)
    assert choose([harmful, same, good, weak], 0.02) == good
    assert choose([harmful, weak], 0.02) == weak
    assert choose([harmful, at(3.0, 0.0, 0.5)], 0.0) == harmful
    gibberish = at(1.0, 0.0, 0.0, degenerate=0.9)
    assert choose([gibberish, weak], 0.02) == weak
    assert choose([good, at(1.2, 0.1, 0.0, forget_reached=0.8)], 0.02).strength == 1.2


def test_every_subject_has_its_own_threshold_between_others_and_itself() -> None:
    subjects = {"a": 2.0, "b": 6.0}
    retain = Moments.from_states(cloud(300, 6, 0))
    sides = {key: cloud(60, 6, 3 + i, centre=centre) for i, (key, centre) in enumerate(subjects.items())}
    fitted = FitSettings.preset("knowledge")

    def decided(keys: list[str]) -> Decision:
        fits = [discriminant_gate(retain, Moments.from_states(sides[key][:40])) for key in keys]
        own = torch.cat([sides[key][40:] for key in keys])
        return calibrate_each(
            {0: DiscriminantGate.merge(fits)}, fitted, held_out={0: cloud(200, 6, 1)}, check={0: cloud(200, 6, 2)},
            forget={0: own}, counts=[20] * len(keys),
        )  # fmt: skip

    both, alone = decided(["a", "b"]), decided(["b"])
    assert both.threshold == alone.threshold == 0.0
    assert both.rates is not None
    assert both.calibration.false_alarm_rate_promised == pytest.approx(float(both.rates.sum()))
    for i, key in enumerate(subjects):
        own = both.gates[0].scores(sides[key][40:])[:, i]
        others = both.gates[0].scores(cloud(200, 6, 1))[:, i]
        assert float(own.min()) > 0 > float(others.max())
        assert -float(others.max()) < float(own.min()), "nearer to the others: unforeseen words must not get through"
    fresh = cloud(30, 6, 9, centre=3.0)
    kept = both.gates[0].select([1]).scores(fresh)
    assert torch.allclose(kept, alone.gates[0].scores(fresh), rtol=1e-9), "no threshold depends on another subject"
