"""The same world on every machine. A failure here means that trained weights no longer fit their benchmark.

After an intended change, raise `mllmeraser.portraits.people.VERSION`, train again and pin the new values.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.portraits import World, digest
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.looks import random_dress, random_looks, random_pose
from mllmeraser.portraits.scenes import degrade, emblem, random_scene
from mllmeraser.portraits.stream import Stream


def sha(value: object) -> str:
    data = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def test_every_row_of_the_smallest_world() -> None:
    """Pixels, wordings, options, answers: all of it."""
    assert digest("unit", 0) == "3ca7d42f924758848a638d14c7e593778373bd6e3fc77186b8b76c588f208baf"


@pytest.mark.parametrize(
    ("preset", "pinned"), [("unit", "b6a6ea50d03b6ca1"), ("dev", "6a207c3eb19fd69c"), ("full", "46c0d16aeaaf42b7")]
)
def test_people(preset: str, pinned: str) -> None:
    world = World(preset, 0)  # type: ignore[arg-type]
    people = [*world.people, *world.holdout, *world.celebrities]
    folds = [[p.key for p in world.forget(15, fold)] for fold in range(world.size.folds)]
    assert sha([(p.key, p.name, p.looks, p.facts) for p in people] + folds) == pinned


def test_pictures() -> None:
    draw = Stream("pinned")
    face = draw_face(random_looks(draw), random_dress(draw), random_pose(draw))
    star = draw_face(random_looks(draw), random_dress(draw, celebrity=True), random_pose(draw))
    scene, _ = random_scene(draw)
    drawn = [face, star, degrade(face, draw), scene, emblem(draw, True), emblem(draw, False)]
    assert [sha(picture) for picture in drawn] == [
        "1e1d18781325b1fb",
        "5f4d28cbd0197897",
        "3f311f63f842f278",
        "2a68dead4ef07924",
        "24cd705d5938ec50",
        "ad7d353e427a9221",
    ]


def test_numbers() -> None:
    draw = Stream("pinned", 7)
    assert [draw.integer(1000) for _ in range(5)] == [379, 526, 834, 559, 810]
    assert draw.uniform(-1, 1) == 0.7809692577591698
    assert draw.shuffle("abcdef") == list("deafcb")


def test_another_seed_is_another_world(world: World) -> None:
    other = World("unit", 1)
    assert not {p.name for p in world.people} & {p.name for p in other.people}
    assert [p.looks for p in world.people] != [p.looks for p in other.people]


def test_a_stream_does_not_depend_on_what_was_drawn_elsewhere() -> None:
    parent = Stream("a")
    before = parent.child("b", 1).uniform()
    parent.uniform()
    assert parent.child("b", 1).uniform() == before == Stream("a", "b", 1).uniform()
    paths = [("a", 1), ("a", "1"), ("a1",), ("a", 1, ""), ("1", "a")]
    assert len({Stream(*path).uniform() for path in paths}) == len(paths)


@given(st.lists(st.integers(), max_size=20), st.integers())
def test_shuffle_and_sample(values: list[int], seed: int) -> None:
    shuffled = Stream(seed).shuffle(values)
    assert sorted(shuffled) == sorted(values)
    taken = Stream(seed).sample(values, len(values) // 2)
    assert taken == shuffled[: len(values) // 2]


@given(st.integers(min_value=1, max_value=10**6), st.integers())
def test_integers_stay_below_their_bound(bound: int, seed: int) -> None:
    assert 0 <= Stream(seed).integer(bound) < bound
    with pytest.raises(ValueError, match="positive"):
        Stream(seed).integer(0)
