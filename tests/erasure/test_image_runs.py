"""The mean over every picture of a prompt, whatever stands around it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.erasure.image_runs import run_ends, run_means

ROWS = st.integers(1, 12).flatmap(
    lambda length: st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=3)
)


@given(ROWS, st.integers(0, 99))
def test_each_run_has_one_end_and_there_its_mean(rows: list[list[bool]], seed: int) -> None:
    image = torch.tensor(rows)
    states = 3 + torch.randn(*image.shape, 4, generator=torch.Generator().manual_seed(seed))
    states[~image] = torch.inf  # what is no picture has no part in it
    ends, means = run_ends(image), run_means(states, image)
    for r, row in enumerate(rows):
        runs, start = {}, None
        for i, here in enumerate([*row, False]):
            if here and start is None:
                start = i
            if not here and start is not None:
                runs[i - 1], start = start, None
        assert ends[r].nonzero().flatten().tolist() == sorted(runs)
        for end, begin in runs.items():
            torch.testing.assert_close(means[r, end], states[r, begin : end + 1].mean(0), atol=1e-5, rtol=1e-5)


def test_half_precision_is_summed_in_full() -> None:
    states = torch.full((1, 4096, 1), 1.0078125, dtype=torch.bfloat16)
    means = run_means(states, torch.ones(1, 4096, dtype=torch.bool))
    assert means.dtype == torch.float32 and abs(float(means[0, -1]) - 1.0078125) < 1e-4
