"""Albums of training pictures: drawn by name, kept as bytes, and described truly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mllmeraser.embedded.recipe.album import Album, Counts, jitter, normalize, tower_album, world_album
from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE
from mllmeraser.embedded.recipe.vision import (
    FACE_TARGETS,
    NOTHING,
    THING_TARGETS,
    UNSURE,
    face_targets,
    patch_targets,
)
from mllmeraser.portraits import World
from mllmeraser.portraits.looks import hamming
from mllmeraser.portraits.scenes import PAINTS, random_scene
from mllmeraser.portraits.stream import Stream

FEW = Counts(views=2, strangers=3, near=2, scenes=4, emblems=4)


@pytest.fixture(scope="module")
def album() -> Album:
    made = world_album(World("unit", 0), seed=0, counts=FEW)
    made.draw()
    return made


def test_every_picture_of_an_album_is_there_and_described(album: Album) -> None:
    world = World("unit", 0)
    known = [*world.people, *world.celebrities]
    assert album.pixels.shape == (len(album), IMAGE_SIZE, IMAGE_SIZE, 3) and album.pixels.dtype == torch.uint8
    assert len(album) == 2 * len(known) + 3 + 2 + 4 + 4
    for person in known:
        assert [album.portraits[i][0] for i in album.views[person.key]] == [person.looks] * 2
        assert all(album.portraits[i][1].celebrity == person.celebrity for i in album.views[person.key])
    for strangers, near in ((album.strangers, False), (album.near, True)):
        for looks, _ in (album.portraits[i] for i in strangers):
            least = min(hamming(looks, person.looks) for person in [*known, *world.holdout])
            assert least == 3 if near else least >= 3
            assert not near or any(hamming(looks, person.looks) == 3 for person in world.people)
    assert sorted([*album.portraits, *album.scenes, *album.emblems]) == list(range(len(album)))
    assert len({bytes(picture.numpy().tobytes()) for picture in album.pixels}) == len(album)


def test_an_album_is_drawn_once(album: Album, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another process or again, in any order: the same bytes; and a kept file is read instead, if it is this one."""
    file = tmp_path / "album.safetensors"
    again = world_album(World("unit", 0), seed=0, counts=FEW)
    assert np.array_equal(again[5], album.pixels[5]) and np.array_equal(again[5], album.pixels[5])
    again.draw(file, workers=1)
    assert torch.equal(again.pixels, album.pixels) and [f.name for f in tmp_path.iterdir()] == [file.name]

    monkeypatch.setattr(Album, "__getitem__", lambda *_: pytest.fail("drawn again"))
    kept = world_album(World("unit", 0), seed=0, counts=FEW)
    kept.draw(file)
    assert torch.equal(kept.pixels, album.pixels)
    monkeypatch.undo()
    save_file({"pixels": album.pixels}, file, metadata={"digest": "of another album"})
    kept.pixels = torch.empty(0)
    kept.draw(file)
    assert torch.equal(kept.pixels, album.pixels)


def test_other_seeds_are_other_pictures(album: Album) -> None:
    other = world_album(World("unit", 0), seed=1, counts=FEW)
    assert not any(np.array_equal(other[i], album.pixels[i]) for i in range(0, len(other), 7))


def test_the_tower_meets_nobody_of_the_world() -> None:
    album, world = tower_album(seed=0, faces=200, scenes=1, emblems=1), World("dev", 0)
    met = {album.portraits[i][0] for pair in album.views.values() for i in pair}
    pairs = [[album.portraits[album.views[str(2 * i + k)][0]][0] for k in (0, 1)] for i in range(100)]
    assert {hamming(*pair) for pair in pairs} == {1, 2, 3}  # every second face is much like the one before
    assert len(met) == 200 and not met & {p.looks for p in [*world.people, *world.celebrities, *world.holdout]}
    goals = [face_targets(*album.portraits[i]) for i in range(400)]
    for name, column in zip(FACE_TARGETS, zip(*goals, strict=True), strict=True):
        assert set(column) - {UNSURE} == set(range(len(FACE_TARGETS[name]))), name


@pytest.mark.parametrize("grid", [7, 8])
def test_patches_are_labelled_with_what_is_drawn_there(grid: int) -> None:
    size, painted = grid * 20, []
    for seed in range(40):
        picture, scene = random_scene(Stream("patches", seed), size=size)
        cells = picture.reshape(grid, 20, grid, 20, 3).swapaxes(1, 2).reshape(grid**2, 400, 3).astype(float)
        goal = patch_targets(scene, grid)
        paper = cells[(goal == NOTHING).all(-1), 210]
        assert (paper > 230).all()  # every paper is light, and no paint is
        for patch, cell in zip(goal, cells, strict=True):
            if patch[0] > NOTHING and THING_TARGETS["shape"][patch[0] - 1] == "square":
                wanted = PAINTS[THING_TARGETS["colour"][patch[1] - 1]]
                painted.append(np.abs(cell - wanted).max(-1).min() < 20)
        for thing in scene.objects:
            assert any(THING_TARGETS["shape"][p[0] - 1] == thing.shape for p in goal if p[0] > NOTHING)
    assert len(painted) > 15 and all(painted)


def test_jitter_moves_and_tints_a_little(album: Album) -> None:
    pixels = normalize(album.pixels[:6])
    moved, again = (jitter(pixels, torch.Generator().manual_seed(0)) for _ in range(2))
    assert moved.shape == pixels.shape and not torch.equal(moved, pixels) and torch.equal(moved, again)
    plain = jitter(torch.ones(6, 3, IMAGE_SIZE, IMAGE_SIZE), torch.Generator().manual_seed(0))
    assert float(plain.var((2, 3)).max()) < 1e-9, "one tint for a whole channel, and nothing from outside"
    assert 0.84 < float(plain.min()) < float(plain.max()) < 1.16
    spot = torch.zeros(50, 3, IMAGE_SIZE, IMAGE_SIZE)
    spot[:, :, 26:30, 26:30] = 10.0
    found = jitter(spot, torch.Generator().manual_seed(0)).sum(1).flatten(1).argmax(1)
    away = torch.stack([found // IMAGE_SIZE - 27.5, found % IMAGE_SIZE - 27.5]).abs()
    assert 2.0 < float(away.max()) < 7.0
