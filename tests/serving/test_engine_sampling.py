"""Drawing tokens: repeatable per row, true to the distribution, and out of nobody else's hands."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mllmeraser.samples import InputError
from mllmeraser.serving.engine import Sampling
from mllmeraser.serving.engine.sampling import Draw, pick

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])


def draws(count: int, **settings: Any) -> list[int]:
    draw = Draw(Sampling(**settings))
    return [int(pick(LOGITS[None], [draw])) for _ in range(count)]


def test_without_temperature_the_most_likely_token_is_taken() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pick(logits, [None] * 4), logits.argmax(-1))


def test_frequencies_are_those_of_the_softmax() -> None:
    found = torch.bincount(torch.tensor(draws(4000, temperature=0.7, seed=1)), minlength=5) / 4000
    expected = (LOGITS / 0.7).softmax(-1)
    assert (found - expected).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_a_nucleus_holds_the_fewest_tokens_that_reach_top_p() -> None:
    shares = LOGITS.softmax(-1)
    edge = float(shares[0] + shares[1])
    assert set(draws(500, temperature=1.0, top_p=edge - 1e-3, seed=2)) == {0, 1}
    assert set(draws(500, temperature=1.0, top_p=edge + 1e-3, seed=2)) == {0, 1, 2}
    assert set(draws(50, temperature=2.0, top_p=1e-6, seed=2)) == {0}


def test_a_low_temperature_nears_the_most_likely_token() -> None:
    assert set(draws(50, temperature=1e-6, seed=3)) == {0}


def test_seeds_repeat_and_differ() -> None:
    one, again, other = (draws(60, temperature=1.0, seed=seed) for seed in (7, 7, 8))
    assert one == again != other
    assert draws(60, temperature=1.0) != draws(60, temperature=1.0), "without a seed every answer has its own"


@pytest.mark.parametrize("seed", [-(2**63), 2**64 - 1])
def test_the_widest_seeds_work(seed: int) -> None:
    assert draws(5, temperature=1.0, seed=seed) == draws(5, temperature=1.0, seed=seed)


def test_a_draw_does_not_depend_on_the_rows_around_it() -> None:
    rows = torch.randn(5, 300, generator=torch.Generator().manual_seed(4))

    def fresh() -> list[Draw | None]:
        settings = [Sampling(temperature=0.5 + row / 4, top_p=0.6 + row / 10, seed=row) for row in range(5)]
        return [None if row == 2 else Draw(one) for row, one in enumerate(settings)]

    together, alone = fresh(), fresh()
    for _ in range(20):
        expected = [int(pick(rows[row : row + 1], [alone[row]])) for row in range(5)]
        assert pick(rows, together).tolist() == expected


def test_what_is_ruled_out_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]])
    draw = Draw(Sampling(temperature=2.0, seed=5))
    assert {int(pick(logits, [draw])) for _ in range(200)} == {0, 2}


def test_the_end_of_the_interval_stays_within_the_nucleus(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw(Sampling(temperature=1.0, top_p=0.5, seed=6))
    monkeypatch.setattr(draw, "next", lambda: 1.0)
    assert int(pick(LOGITS[None], [draw])) in (0, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": float("nan")},
        {"seed": 2**64},
        {"stop": ("",)},
        {"stop": ("x" * 201,)},
        {"stop": tuple("abcdefghijklmnopq")},
        {"logprobs": -1},
        {"logprobs": 21},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Sampling(**settings)
