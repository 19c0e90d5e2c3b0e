"""The margin moves the boundary between two faces, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mllmeraser.erasure.gates import DiscriminantBasis, Gate, look_alike_pairs, subject_gate
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.portraits.people import World
from mllmeraser.studies.crowd import look_alikes
from mllmeraser.studies.room import FITTED, decided, in_hindsight, taken, with_margin

OWN, OTHER = torch.eye(3, dtype=torch.float64)[0], torch.tensor([0.9, 0.1, 0.0], dtype=torch.float64)


def at(place: float) -> Tensor:
    """A face between the person (0) and the other one (1)."""
    return (OWN + place * (OTHER - OWN))[None]


@pytest.fixture
def gate() -> Gate:
    basis = DiscriminantBasis(torch.zeros(3).double(), torch.eye(3).double(), torch.eye(3).double())
    views = OWN.expand(4, 3)
    pairs = look_alike_pairs(basis, [views], [views[:0]], [OTHER])
    made = subject_gate(basis, [Moments.from_states(views)], pairs=pairs)
    return made.affine(torch.ones(1), torch.full((1,), -0.5))


def test_faces_beyond_the_middle_are_taken_only_with_a_margin(gate: Gate) -> None:
    for margin, furthest in ((0.0, 0.5), (FITTED, 0.7), (0.4, 0.9)):
        moved = with_margin(gate, margin)
        assert taken(moved, at(furthest - 0.05)) == [True], margin
        assert taken(moved, at(furthest + 0.05)) == [False], margin
    assert taken(with_margin(gate, math.inf), at(2.0)) == [True]
    assert taken(gate, at(0.65)) == taken(with_margin(gate, FITTED), at(0.65))


def test_missed_and_taken_are_counted_for_each_person(gate: Gate) -> None:
    faces = {"a": torch.cat([at(0.0), at(0.8)]), "b": torch.cat([at(1.0), at(0.6), at(0.4)])}
    found = decided({"a": gate}, faces, {"a": "b"}, FITTED, seed=0)
    assert (found["missed"]["share"], found["missed"]["n"]) == (0.5, 2)
    assert (found["taken for them"]["share"], found["taken for them"]["n"]) == (pytest.approx(2 / 3), 3)


def test_hindsight_lets_one_in_twenty_pass(gate: Gate) -> None:
    own = torch.cat([at(0.0).expand(19, 3), at(0.8)])
    faces = {"a": own, "b": torch.cat([at(1.0), at(0.6), at(0.4)])}
    found = in_hindsight({"a": gate}, faces, {"a": "b"}, seed=0)
    assert found["missed"]["share"] == 0.05
    assert found["taken for them"]["share"] == 0.0, "a boundary between 0 and 0.4 is there to be found"
    far = {**faces, "a": torch.cat([at(0.0).expand(18, 3), at(0.8), at(0.8)])}
    found = in_hindsight({"a": gate}, far, {"a": "b"}, seed=0)
    assert (found["missed"]["share"], found["taken for them"]["share"]) == (0.0, pytest.approx(2 / 3))


def test_look_alikes_stay() -> None:
    world = World("dev")
    everybody = [person.key for person in world.people]
    assert look_alikes(world, everybody) == {}
    found = look_alikes(world, everybody[:1])
    assert all(key in everybody[:1] and other.key not in everybody[:1] for key, other in found.items())
