"""The mean over every picture of a prompt, whatever stands around it."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.states.image_spans import run_means

ROWS = st.integers(1, 12).flatmap(
    lambda length: st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=3)
)


@given(ROWS, st.integers(1, 7), st.integers(0, 99), st.booleans())
def test_each_run_has_its_mean(rows: list[list[bool]], most: int, seed: int, looks: bool) -> None:
    image = torch.tensor(rows)
    states = 3 + torch.randn(*image.shape, 4, generator=torch.Generator().manual_seed(seed))
    states[~image] = torch.inf  # what is no picture has no part in it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_spans, "may_look", lambda _: looks)
        means, there = run_means(states, image, most)
    if looks:  # no more than there are, and one that nobody has where there is none
        most = min(most, max(1, *(len([k for k, _ in groupby(row) if k]) for row in rows)))
    assert means.shape == (len(rows), most, 4) and there.shape == (len(rows), most)
    for r, row in enumerate(rows):
        runs, start = [], None
        for i, here in enumerate([*row, False]):
            if here and start is None:
                start = i
            if not here and start is not None:
                runs.append(states[r, start:i].mean(0))
                start = None
        assert there[r].tolist() == [k < len(runs) for k in range(most)]
        for k, mean in enumerate(runs[:most]):
            torch.testing.assert_close(means[r, k], mean, atol=1e-5, rtol=1e-5)


def test_half_precision_is_summed_in_full() -> None:
    states = torch.full((1, 4096, 1), 1.0078125, dtype=torch.bfloat16)
    means, _ = run_means(states, torch.ones(1, 4096, dtype=torch.bool), 1)
    assert means.dtype == torch.float32 and abs(float(means[0, 0]) - 1.0078125) < 1e-4
