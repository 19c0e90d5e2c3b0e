"""Albums: the training pictures, each drawn once by name and kept as bytes, and what each of them shows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from mllmeraser.embedded.recipe.pictures import draw_emblem, draw_portrait, draw_scene
from mllmeraser.portraits.looks import DISCRETE, Dress, Looks, random_dress, random_looks, vary
from mllmeraser.portraits.people import Person, World, near_strangers, strangers
from mllmeraser.portraits.scenes import Scene, random_things
from mllmeraser.portraits.stream import Stream


@dataclass(frozen=True)
class Counts:
    """How many pictures of each kind are drawn."""

    views: int = 44
    """per person and celebrity"""
    strangers: int = 9000
    near: int = 20_000
    """strangers who differ from somebody known in three attributes, as little as the hold-out people may"""
    scenes: int = 6000
    emblems: int = 800


class Album(Dataset):
    """Pictures by index. A picture depends on the name of its stream alone, so processes may share the drawing.

    ``pixels`` is uint8 (pictures, IMAGE_SIZE, IMAGE_SIZE, 3), empty before ``draw``. By index, ``portraits`` holds the
    face and the dress of a portrait, ``things`` what a scene holds, and ``sealed`` whether an emblem is sealed.
    """

    def __init__(self) -> None:
        """An empty album."""
        self.pixels = torch.empty(0, dtype=torch.uint8)
        self.portraits: dict[int, tuple[Looks, Dress]] = {}
        self.things: dict[int, Scene] = {}
        self.sealed: dict[int, bool] = {}
        self.views: dict[str, list[int]] = {}
        self.strangers: list[int] = []
        self.near: list[int] = []
        self.scenes: list[int] = []
        self.emblems: list[int] = []
        self._drawings: list[tuple[Stream, Callable[[Stream], np.ndarray]]] = []

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._drawings)

    def __getitem__(self, index: int) -> np.ndarray:
        """Draw a picture."""
        stream, drawing = self._drawings[index]
        return drawing(stream.child())

    def add_portrait(self, person: Person, stream: Stream) -> int:
        """Plan a portrait; its index."""
        dress = random_dress(stream.child(), celebrity=person.celebrity)
        index = self._add(stream, partial(draw_portrait, person))
        self.portraits[index] = (person.looks, dress)
        return index

    def add_scene(self, stream: Stream) -> int:
        """Plan a scene; its index."""
        scene = random_things(stream.child())
        index = self._add(stream, draw_scene)
        self.things[index] = scene
        self.scenes.append(index)
        return index

    def add_emblem(self, stream: Stream, sealed: bool) -> int:
        """Plan an emblem; its index."""
        index = self._add(stream, partial(draw_emblem, sealed=sealed))
        self.sealed[index] = sealed
        self.emblems.append(index)
        return index

    def _add(self, stream: Stream, drawing: Callable[[Stream], np.ndarray]) -> int:
        self._drawings.append((stream, drawing))
        return len(self._drawings) - 1

    def draw(
        self, file: Path | None = None, *, workers: int = 0, progress: Callable[[int], None] | None = None
    ) -> None:
        """Draw everything, or read it from ``file`` if an earlier call drew this very album into it."""
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
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}.tmp")
            save_file({"pixels": self.pixels}, temporary, metadata={"digest": digest})
            os.replace(temporary, file)


def world_album(world: World, *, seed: int, counts: Counts) -> Album:
    """The people of a world, strangers, scenes and emblems: the streams differ from those of every test picture."""
    album, stream = Album(), Stream("training-pictures", seed)
    for person in [*world.people, *world.celebrities]:
        album.views[person.key] = [album.add_portrait(person, stream.child(person.key, k)) for k in range(counts.views)]
    crowd = strangers(stream.child("strangers"), world)
    for i in range(counts.strangers):
        album.strangers.append(album.add_portrait(next(crowd), stream.child("stranger", i)))
    crowd = near_strangers(stream.child("near-strangers"), world)
    for i in range(counts.near):
        album.near.append(album.add_portrait(next(crowd), stream.child("near-stranger", i)))
    _add_things(album, stream, counts)
    return album


def tower_album(*, seed: int, faces: int = 12_000, scenes: int = 5000, emblems: int = 600) -> Album:
    """Two pictures of each of many random faces (nobody of any world), scenes and emblems.

    Every second face differs from the one before it in one to three attributes only.
    """
    album, stream = Album(), Stream("tower-pictures", seed)
    looks = random_looks(stream.child("looks", 0))
    for i in range(faces):
        draw = stream.child("looks", i)
        if i % 2:
            looks = vary(draw, looks, draw.sample(tuple(DISCRETE), 1 + i // 2 % 3))
        else:
            looks = random_looks(draw)
        person = Person("", "", looks, {}, celebrity=stream.chance(0.15))
        album.views[str(i)] = [album.add_portrait(person, stream.child("face", i, k)) for k in range(2)]
    _add_things(album, stream, Counts(scenes=scenes, emblems=emblems))
    return album


def _add_things(album: Album, stream: Stream, counts: Counts) -> None:
    for i in range(counts.scenes):
        album.add_scene(stream.child("scene", i))
    for i in range(counts.emblems):
        album.add_emblem(stream.child("emblem", i), sealed=stream.chance(0.5))
