"""Thresholds of names, faces and topics: each subject's own, at a stated rate, with a distance from the unforeseen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from worlds import cloud

from mllmeraser.erasure.calibration.subject import (
    NEVER,
    impostor_threshold,
    subject_thresholds,
    topic_threshold,
    with_margin,
)
from mllmeraser.erasure.gates import NO_SITE, DiscriminantBasis, subject_gate
from mllmeraser.erasure.states.moments import Moments

WIDTH = 8


def drawn(seed: int, n: int, share: float, subjects: int = 3) -> Tensor:
    """Scores of n prompts, of which a share has something to read."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, subjects, generator=generator)
    return torch.where(torch.rand(n, 1, generator=generator) < share, scores, NO_SITE)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 1.0]))
def test_no_calibration_prompt_lies_above_and_subjects_do_not_meet(seed: int, share: float) -> None:
    scores, far = drawn(seed, 60, share), [torch.tensor([9.0])] * 3
    levels = subject_thresholds(scores, far, 0.001, 0.2).thresholds
    assert not bool((levels == NEVER).any())
    assert not bool((scores > levels).any())
    assert torch.equal(subject_thresholds(scores[:, [1]], far[:1], 0.001, 0.2).thresholds, levels[[1]])


def test_a_fresh_prompt_lies_above_a_threshold_as_seldom_as_stated() -> None:
    n, above = 19, 0
    for seed in range(2000):
        scores = drawn(seed, n + 1, 1.0, subjects=1)
        above += int(scores[-1] > subject_thresholds(scores[:-1], [torch.tensor([9.0])], 0.001, 0.2).thresholds)
    assert above / 2000 == pytest.approx(1 / (n + 1), abs=0.015)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.2]))
def test_where_both_overlap_no_more_than_the_rate_lies_above(seed: int, rate: float) -> None:
    scores = drawn(seed, 100, 1.0, subjects=1)
    levels = subject_thresholds(scores, [scores.max()[None] - 0.01], 0.001, rate)
    level = float(levels.thresholds)
    assert float(levels.rates) == rate and 0 < int((scores > level).sum()) <= rate * 101


def test_a_gate_with_nothing_to_read_never_opens() -> None:
    nothing = subject_thresholds(torch.full((5, 2), NO_SITE), [torch.tensor([0.5])] * 2, 0.001, 0.2)
    assert nothing.thresholds.tolist() == [NEVER, NEVER] and not nothing.rates.any()


def people(n: int, seed: int = 0) -> list[Tensor]:
    return [cloud(6, WIDTH, 100 * seed + k, centre=2.0, spread=0.6) for k in range(n)]


def basis(kept: list[Tensor]) -> DiscriminantBasis:
    eye = torch.eye(WIDTH, dtype=torch.float64)
    return DiscriminantBasis(torch.cat(kept).double().mean(0), eye, eye)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_impostors_pass_at_the_stated_rate(rate: float) -> None:
    """Counted by hand: every person's own gate, with all others as rivals, on everybody else's pictures."""
    kept = people(12)
    through, seen = basis(kept), [(str(k), rows[3:]) for k, rows in enumerate(kept)]
    threshold = impostor_threshold(
        through, [(str(k), rows[:3].mean(0)) for k, rows in enumerate(kept)], seen, rate, 4.0
    )
    assert threshold is not None
    passed = asked = 0
    for k in range(12):
        rivals = [Moments.from_states(rows[:3]) for j, rows in enumerate(kept) if j != k]
        gate = subject_gate(through, [Moments.from_states(kept[k][:3])], rivals)
        others = torch.cat([rows[3:] for j, rows in enumerate(kept) if j != k])
        passed += int((gate.scores(others) > threshold).sum())
        asked += len(others)
    # rivals are held in float16: a score on the threshold may fall on either side
    assert abs(passed / asked - rate) <= 1.5 / asked + 2 / asked


def test_somebody_is_no_impostor_of_oneself() -> None:
    kept = [cloud(6, WIDTH, k, centre=3.0, spread=0.01) for k in range(4)]
    means = [(str(k), rows.mean(0)) for k, rows in enumerate(kept)]
    by_key = impostor_threshold(basis(kept), means, [(str(k), rows) for k, rows in enumerate(kept)], 0.06, 4.0)
    mixed_up = impostor_threshold(basis(kept), means, [(None, rows) for rows in kept], 0.06, 4.0)
    assert by_key is not None and mixed_up is not None and by_key < 0.9 < mixed_up


def test_too_few_people_or_pictures_give_no_threshold() -> None:
    kept = people(3)
    seen: list[tuple[str | None, Tensor]] = [("9", kept[0])]
    assert impostor_threshold(basis(kept), [("0", kept[0].mean(0))], seen, 0.2, 4.0) is None
    assert impostor_threshold(basis(kept), [("0", kept[0].mean(0)), ("1", kept[1].mean(0))], seen, 0.001, 4.0) is None


def test_a_threshold_moves_towards_what_is_to_be_forgotten_but_never_past_it() -> None:
    own = [torch.tensor([1.0, 0.9, 0.95, NO_SITE]), torch.tensor([0.7])]  # the last prompt of the first holds no name
    first, second = with_margin(torch.tensor([0.6, 0.5]), own, 0.001, 0.25).tolist()
    assert first == pytest.approx(0.6 + 0.25 * 0.3, abs=1e-3) and second == pytest.approx(0.5 + 0.25 * 0.2)


@pytest.mark.parametrize("own", [[0.5, 1.0], [NO_SITE], []])
def test_it_stays_where_there_is_no_room(own: list[float]) -> None:
    assert with_margin(torch.tensor([0.625]), [torch.tensor(own)], 0.001, 0.25).tolist() == [0.625]


def test_the_topic_lies_near_the_others_or_just_under_the_facts() -> None:
    facts, first, second = torch.tensor([0.8, 0.9]), torch.tensor([0.6]), torch.tensor([1.0])
    apart, mixed = torch.tensor([0.0, 0.2]), torch.tensor([0.0, 0.95])
    assert topic_threshold(apart, facts, first, 0.001, 0.1) == pytest.approx(0.2 + 0.1 * 0.4, abs=1e-3)
    assert topic_threshold(apart, facts, second, 0.001, 0.1) == pytest.approx(0.2 + 0.1 * 0.6, abs=1e-3)
    assert topic_threshold(mixed, facts, first, 0.001, 0.1) == pytest.approx(0.6), (
        "nothing to be forgotten may slip through"
    )
    assert topic_threshold(mixed, facts, second, 0.001, 0.1) == pytest.approx(0.8, abs=1e-3)
