"""Thresholds of names and faces: one rate for both, and a distance from what calibration never saw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mllmeraser.erasure.identity_thresholds import NAME_SHARE, ROOM, name_and_face, with_room
from mllmeraser.erasure.steering_pass import NOWHERE
from mllmeraser.samples.sample import Sample
from tiny import picture

HELD = [Sample("Who is Ada?"), Sample("Who is this?", picture(1))]
NOTHING = torch.tensor([[NOWHERE], [NOWHERE]])


def drawn(seed: int, n: int, share: float) -> tuple[Tensor, Tensor]:
    """Scores of n prompts, of which a share has a picture."""
    generator = torch.Generator().manual_seed(seed)
    names, faces = torch.randn(2, n, 1, generator=generator)
    return names, torch.where(torch.rand(n, 1, generator=generator) < share, faces, NOWHERE)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 1.0]), st.sampled_from([0.01, 0.05, 0.2]))
def test_both_gates_together_keep_to_the_rate(seed: int, share: float, alpha: float) -> None:
    seen = drawn(seed, 600, share)
    name, face = name_and_face(seen, (NOTHING, NOTHING), HELD, alpha=alpha, spare=0.001)
    fired = (seen[0] > name) | (seen[1] > face)
    assert int(fired.sum()) <= alpha * 601
    assert int((seen[0] > name).sum()) <= NAME_SHARE * alpha * 601


def test_what_names_leave_is_for_faces() -> None:
    seen = drawn(0, 600, 1.0)
    shy = (torch.tensor([[9.0], [NOWHERE]]), NOTHING)  # names to be forgotten lie far above: room beyond all others
    _, half = name_and_face(seen, (NOTHING, NOTHING), HELD, alpha=0.05, spare=0.001)
    name, more = name_and_face(seen, shy, HELD, alpha=0.05, spare=0.001)
    assert int((seen[0] > name).sum()) == 0 and more < half


def test_without_pictures_or_names_no_gate_opens() -> None:
    names, _ = drawn(0, 600, 1.0)
    nowhere = torch.full_like(names, NOWHERE)
    assert name_and_face((names, nowhere), (NOTHING, NOTHING), HELD, alpha=0.05, spare=0.001)[1] == 1.0
    assert name_and_face((nowhere, names), (NOTHING, NOTHING), HELD, alpha=0.05, spare=0.001)[0] == 1.0


def test_a_threshold_moves_towards_what_is_to_be_forgotten_but_never_past_it() -> None:
    names = torch.tensor([1.0, 0.9, 0.95, NOWHERE])  # the last prompt holds no name
    moved = with_room(0.6, names, spare=0.001)
    assert moved == pytest.approx(0.6 + ROOM * 0.3, abs=1e-3) and 0.6 < moved < 0.9


@pytest.mark.parametrize("names", [[0.5, 1.0], [NOWHERE], []])
def test_it_stays_where_there_is_no_room(names: list[float]) -> None:
    assert with_room(0.6, torch.tensor(names), spare=0.001) == 0.6
