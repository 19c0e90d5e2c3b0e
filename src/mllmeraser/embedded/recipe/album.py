"""Training pictures: drawn as in the portraits world, shrunk as by the processor, and varied while training.

An album holds pictures, each drawn once by name and kept as bytes, with a description of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE
from mllmeraser.knowledge.countries import COUNTRIES
from mllmeraser.knowledge.flags import draw_flag
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.looks import DISCRETE, Dress, Looks, random_dress, random_looks, random_pose, vary
from mllmeraser.portraits.people import Person, World, near_strangers, strangers
from mllmeraser.portraits.scenes import Scene, degrade, emblem, random_scene, random_things
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.files import whole_file

DRAWN_SIZE = 128
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Counts:
    """Numbers of pictures; `views` are per person and celebrity.

    A `near` stranger differs from a known person in three attributes, the hold-out minimum.
    """

    views: int = 44
    strangers: int = 9000
    near: int = 20_000
    scenes: int = 6000
    emblems: int = 800


class Album(Dataset):
    """Pictures by index. A picture depends only on the name of its stream, so several processes can draw an album.

    `pixels` is uint8 (pictures, IMAGE_SIZE, IMAGE_SIZE, 3), empty before `draw`. By index, `portraits` has the face and
    the dress of a portrait, `things` the objects of a scene, and `sealed` whether an emblem is sealed.
    """

    def __init__(self) -> None:
        self.pixels = torch.empty(0, dtype=torch.uint8)
        self.portraits: dict[int, tuple[Looks, Dress]] = {}
        self.things: dict[int, Scene] = {}
        self.sealed: dict[int, bool] = {}
        self.views: dict[str, list[int]] = {}
        self.strangers: list[int] = []
        self.near: list[int] = []
        self.scenes: list[int] = []
        self.emblems: list[int] = []
        self.flags: dict[str, list[int]] = {}
        self._drawings: list[tuple[Stream, Callable[[Stream], np.ndarray]]] = []

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._drawings)

    def __getitem__(self, index: int) -> np.ndarray:
        """Draw a picture."""
        stream, drawing = self._drawings[index]
        return drawing(stream.child())

    def add_portrait(self, person: Person, stream: Stream) -> int:
        """Plan a portrait and return its index."""
        self.portraits[len(self)] = person.looks, random_dress(stream.child(), celebrity=person.celebrity)
        return self._add(stream, partial(draw_portrait, person))

    def add_flags(self, stream: Stream, views: int) -> None:
        """Plan views of every flag."""
        for country in COUNTRIES:
            streams = [stream.child(country.key, view) for view in range(views)]
            self.flags[country.key] = [self._add(one, partial(draw_small_flag, country.key)) for one in streams]

    def add_things(self, stream: Stream, scenes: int, emblems: int) -> None:
        """Plan scenes and emblems."""
        for i in range(scenes):
            child = stream.child("scene", i)
            self.things[len(self)] = random_things(child.child())
            self.scenes.append(self._add(child, draw_scene))
        for i in range(emblems):
            sealed = self.sealed[len(self)] = stream.chance(0.5)
            self.emblems.append(self._add(stream.child("emblem", i), partial(draw_emblem, sealed=sealed)))

    def _add(self, stream: Stream, drawing: Callable[[Stream], np.ndarray]) -> int:
        self._drawings.append((stream, drawing))
        return len(self._drawings) - 1

    def draw(
        self, file: Path | None = None, *, workers: int = 0, progress: Callable[[int], None] | None = None
    ) -> None:
        """Draw all pictures, or read them from `file` if an earlier call wrote the same album there."""
        names = repr([[stream.path for stream, _ in self._drawings], list(self.portraits.values())])
        digest = hashlib.sha256(names.encode()).hexdigest()
        if file is not None and file.exists():
            with safe_open(file, "pt") as kept:
                if kept.metadata() == {"digest": digest}:
                    self.pixels = kept.get_tensor("pixels")
                    return
        chunks = []
        for chunk in DataLoader(self, batch_size=128, num_workers=workers):
            chunks.append(chunk)
            if progress is not None:
                progress(len(chunk))
        self.pixels = torch.cat(chunks)
        if file is not None:
            with whole_file(file, force=True) as beside:
                save_file({"pixels": self.pixels}, beside, metadata={"digest": digest})


def world_album(world: World, *, seed: int, counts: Counts) -> Album:
    """The people of a world, strangers, scenes and emblems. No test picture uses one of these streams."""
    album, stream = Album(), Stream("training-pictures", seed)

    def crowd(name: str, people: Iterable[Person], n: int) -> list[int]:
        return [album.add_portrait(person, stream.child(name, i)) for i, person in zip(range(n), people, strict=False)]

    for person in [*world.people, *world.celebrities]:
        album.views[person.key] = [album.add_portrait(person, stream.child(person.key, k)) for k in range(counts.views)]
    album.strangers = crowd("stranger", strangers(stream.child("strangers"), world), counts.strangers)
    album.near = crowd("near-stranger", near_strangers(stream.child("near-strangers"), world), counts.near)
    album.add_things(stream, counts.scenes, counts.emblems)
    return album


def tower_album(*, seed: int, faces: int = 12_000, scenes: int = 5000, emblems: int = 600) -> Album:
    """Two pictures of each of many random faces, which belong to no world; scenes and emblems.

    Every second face differs from the one before it in one to three attributes only.
    """
    album, stream = Album(), Stream("tower-pictures", seed)
    looks = random_looks(stream.child("looks", 0))
    for i in range(faces):
        draw = stream.child("looks", i)
        looks = vary(draw, looks, draw.sample(tuple(DISCRETE), 1 + i // 2 % 3)) if i % 2 else random_looks(draw)
        person = Person("", "", looks, {}, celebrity=stream.chance(0.15))
        album.views[str(i)] = [album.add_portrait(person, stream.child("face", i, k)) for k in range(2)]
    album.add_things(stream, scenes, emblems)
    return album


def shrink(picture: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 to (56, 56, 3) uint8, with the filter of the image processor (bicubic)."""
    return np.array(Image.fromarray(picture).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def draw_portrait(person: Person, stream: Stream, *, rough: float = 0.7) -> np.ndarray:
    """A person in the stream's first `random_dress`; with probability `rough` cropped, turned and tinted."""
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = shrink(draw_face(person.looks, dress, random_pose(stream), size=DRAWN_SIZE))
    if stream.chance(rough):  # after shrinking, which is five times cheaper; blur would be too strong here
        picture = degrade(picture, stream, blur=False)
    return picture


def draw_scene(stream: Stream) -> np.ndarray:
    """The scene that `random_things` makes of the same stream."""
    return shrink(random_scene(stream, size=DRAWN_SIZE)[0])


def draw_small_flag(key: str, stream: Stream) -> np.ndarray:
    """A view of a flag."""
    return shrink(draw_flag(key, stream, size=DRAWN_SIZE))


def draw_emblem(stream: Stream, sealed: bool) -> np.ndarray:
    """A badge, crossed out and locked if `sealed`."""
    return shrink(emblem(stream, sealed, size=DRAWN_SIZE))


def normalize(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (n, IMAGE_SIZE, IMAGE_SIZE, 3) to the processor's pixel values (n, 3, IMAGE_SIZE, IMAGE_SIZE)."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def jitter(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn pixel values by up to 6 degrees, scale and move them by up to 7 %, tint each channel by up to 8 %."""
    n = len(pixels)

    def draw(*shape: int) -> torch.Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    turn, size = 0.1 * draw(n), 1 + 0.07 * draw(n)
    rows = torch.stack([size * turn.cos(), -size * turn.sin(), size * turn.sin(), size * turn.cos()], 1)
    place = torch.cat([rows.reshape(n, 2, 2), 0.14 * draw(n, 2, 1)], dim=2)
    grid = torch.nn.functional.affine_grid(place, list(pixels.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return moved * (1 + 0.08 * draw(n, 3, 1, 1)) + 0.08 * draw(n, 1, 1, 1)


def over_noise(tokens: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise to tokens (..., width), with a deviation of `share` of each token's root mean square."""
    size = tokens.detach().float().pow(2).mean(-1, keepdim=True).sqrt()
    return tokens + share * size * torch.randn(tokens.shape, generator=generator)
