"""Portraits: every attribute can be seen at the size that the embedded model sees, and drawing is exact."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mllmeraser.portraits.canvas import Canvas
from mllmeraser.portraits.combine import Both, Either, Minus, Mirrored, Outline
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.looks import (
    ACCESSORY,
    BACKGROUND,
    DISCRETE,
    GEOMETRY,
    HAT,
    SHIRT,
    STAGE_ACCESSORY,
    Dress,
    Looks,
    random_dress,
    random_looks,
    random_pose,
)
from mllmeraser.portraits.raster import Circle, Ellipse, HalfPlane, Line, Polygon, Rectangle, Shape
from mllmeraser.portraits.scenes import degrade, emblem, random_scene
from mllmeraser.portraits.stream import Stream

SEEN = 56
VISIBLE = 5
"""Pixels that have to change: few, for freckles on dark skin are few."""
BASES = (
    Looks("peach", "oval", "side_part", "brown", "round", "none"),
    Looks("deep", "square", "bob", "black", "square_glasses", "beard", mouth="neutral", mark="blush"),
)
DRESS = {"shirt": SHIRT, "background": BACKGROUND, "hat": HAT, "accessory": ACCESSORY}


def seen(looks: Looks, dress: Dress | None = None) -> np.ndarray:
    """What is left of a picture once it is shrunk for the model."""
    picture = Image.fromarray(draw_face(looks, dress)).resize((SEEN, SEEN), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.int64)


def changed(a: np.ndarray, b: np.ndarray) -> int:
    """Pixels of which a channel moved by 16 levels or more."""
    return int((np.abs(a - b).max(-1) >= 16).sum())


@pytest.mark.parametrize("base", BASES, ids=["fair", "dark"])
@pytest.mark.parametrize("attribute", DISCRETE)
def test_every_value_of_every_attribute_can_be_seen(base: Looks, attribute: str) -> None:
    pictures = [seen(replace(base, **{attribute: value})) for value in DISCRETE[attribute]]  # type: ignore[arg-type]
    assert min(changed(a, b) for a, b in combinations(pictures, 2)) >= VISIBLE


@pytest.mark.parametrize("part", DRESS)
def test_clothes_and_surroundings_can_be_seen(part: str) -> None:
    pictures = [seen(BASES[0], replace(Dress(), **{part: value})) for value in DRESS[part]]  # type: ignore[arg-type]
    assert min(changed(a, b) for a, b in combinations(pictures, 2)) >= VISIBLE


def test_celebrities_stand_on_a_stage() -> None:
    plain = seen(BASES[0])
    stages = [seen(BASES[0], Dress(accessory=worn, celebrity=True)) for worn in STAGE_ACCESSORY]
    assert changed(*stages) >= VISIBLE and all(changed(plain, stage) > SEEN * SEEN / 4 for stage in stages)


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_moves_pixels(name: str) -> None:
    low, high = (draw_face(replace(BASES[0], **{name: value})) for value in (-1.0, 1.0))  # type: ignore[arg-type]
    assert changed(low.astype(np.int64), high.astype(np.int64)) > 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([32, 56, 128]))
def test_drawing_is_bit_identical_on_repeat(seed: int, celebrity: bool, size: int) -> None:
    draw = Stream("repeat", seed)
    looks, dress, pose = random_looks(draw), random_dress(draw, celebrity), random_pose(draw)
    picture = draw_face(looks, dress, pose, size)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, draw_face(looks, dress, pose, size))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([56, 128]))
def test_degrading_keeps_shape_and_type(seed: int, blur: bool, size: int) -> None:
    picture = draw_face(random_looks(Stream(seed)), size=size)
    before = picture.copy()
    rough = degrade(picture, Stream("rough", seed), blur=blur)
    assert rough.shape == picture.shape and rough.dtype == picture.dtype
    assert np.array_equal(picture, before)
    assert np.array_equal(rough, degrade(picture, Stream("rough", seed), blur=blur))
    assert not np.array_equal(rough, picture)


def test_a_sealed_emblem_is_its_open_twin_with_a_seal() -> None:
    for seed in range(5):
        sealed, plain = (emblem(Stream(seed), state).astype(np.int64) for state in (True, False))
        share = changed(sealed, plain) / sealed[..., 0].size
        assert 0.1 < share < 0.6


def test_scenes_hold_what_they_say() -> None:
    counts = set()
    for seed in range(40):
        picture, scene = random_scene(Stream(seed), size=64)
        counts.add(len(scene.objects))
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert (len(np.unique(picture.reshape(-1, 3), axis=0)) == 1) == (not scene.objects)
    assert len(counts) > 3 and counts == set(range(max(counts) + 1))


@pytest.mark.parametrize("wrong", [{"skin": "green"}, {"mark": ""}, {"eye_spacing": 1.5}, {"brow_angle": float("nan")}])
def test_impossible_looks_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(BASES[0], **wrong)  # type: ignore[arg-type]


def test_only_celebrities_wear_medals() -> None:
    with pytest.raises(ValueError, match="accessory"):
        Dress(accessory="medal")
    with pytest.raises(ValueError, match="accessory"):
        Dress(accessory="scarf", celebrity=True)


DISC, BAR = Circle(0.1, 0.0, 0.2), Rectangle(-0.1, 0.1, 0.2, 0.1, 0.03)
FIGURES: list[Shape] = [
    DISC, BAR, Ellipse(0.0, 0.0, 0.2, 0.3, 0.2, True), Line(((-0.3, -0.2), (0.0, 0.1), (0.3, 0.0)), 0.08),
    Polygon(((-0.2, -0.3), (0.3, 0.0), (0.0, 0.05), (-0.1, 0.3)), 0.02), Both(DISC, BAR), Either((DISC, BAR)),
    Minus(DISC, BAR), Outline(DISC, 0.05), Mirrored(Circle(0.25, 0.1, 0.1)),
    Both(DISC, HalfPlane((0.1, 0.0), (0.0, 1.0))),
]  # fmt: skip


@pytest.mark.parametrize("shape", FIGURES, ids=lambda shape: type(shape).__name__)
def test_a_shape_lies_in_its_box(shape: Shape) -> None:
    """Else the window that is painted would cut it off."""
    line = np.linspace(-0.5, 0.5, 201)
    u, v = np.meshgrid(line, line)
    inside = shape.distance(u.copy(), v.copy()) < 0
    u0, v0, u1, v1 = shape.box
    assert inside.any() and not inside.all()
    assert np.all((u >= u0 - 1e-9) & (u <= u1 + 1e-9) & (v >= v0 - 1e-9) & (v <= v1 + 1e-9) | ~inside)


@pytest.mark.parametrize("shape", FIGURES, ids=lambda shape: type(shape).__name__)
def test_painting_through_the_window_is_painting_everything(shape: Shape) -> None:
    canvas, whole = Canvas(64), Canvas(64)
    for target in (canvas, whole):
        target.place(0.2, 0.9, 0.05, -0.04)
    canvas.fill(shape, (10.0, 20.0, 30.0))
    cover = np.clip(0.5 - shape.distance(whole._u.copy(), whole._v.copy()) * whole._sharpness, 0.0, 1.0)
    expected = 255.0 + cover * (np.array([10.0, 20.0, 30.0])[:, None, None] - 255.0)
    assert np.array_equal(canvas.image(), np.rint(expected).astype(np.uint8).transpose(1, 2, 0))
