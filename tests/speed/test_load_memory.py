"""What the load benchmark calls growth: a leak shows, a moment does not."""

from __future__ import annotations

import pytest
from load import memory

STEADY = [{"at": float(at), "bytes": 100.0} for at in range(0, 601, 10)]


def test_a_moment_is_no_growth() -> None:
    spiked = [{**one, "bytes": 130.0} if one["at"] in (110, 600) else one for one in STEADY]
    assert memory(spiked) == {"memory_growth": 0.0, "memory_highest": pytest.approx(0.3)}


def test_a_leak_is_growth() -> None:
    leaking = [{**one, "bytes": 100.0 + one["at"] / 10} for one in STEADY]
    assert memory(leaking)["memory_growth"] == pytest.approx((157 - 103) / 103)
