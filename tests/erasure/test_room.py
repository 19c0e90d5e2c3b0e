"""Thresholds keep a distance from what calibration never saw."""

from __future__ import annotations

import pytest
import torch

from mllmeraser.erasure.identity import ROOM, _with_room
from mllmeraser.erasure.steering_pass import NOWHERE


def test_it_moves_towards_the_names_to_be_forgotten_but_never_past_them() -> None:
    names = torch.tensor([1.0, 0.9, 0.95, NOWHERE])  # the last prompt holds no name
    moved = _with_room(0.6, names, spare=0.001)
    assert moved == pytest.approx(0.6 + ROOM * 0.3, abs=1e-3) and 0.6 < moved < 0.9


@pytest.mark.parametrize("names", [[0.5, 1.0], [NOWHERE], []])
def test_it_stays_where_there_is_no_room(names: list[float]) -> None:
    assert _with_room(0.6, torch.tensor(names), spare=0.001) == 0.6
