"""Every training picture is drawn once and passed once through the frozen tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import CLIPVisionModel

from mllmeraser.embedded.recipe.pictures import DRAWN_SIZE, portrait, shrink
from mllmeraser.embedded.recipe.vision import normalise
from mllmeraser.portraits.faces import Dress, Looks
from mllmeraser.portraits.people import Person, World, strangers
from mllmeraser.portraits.scenes import Scene, emblem, random_scene
from mllmeraser.portraits.stream import Stream


@dataclass(frozen=True)
class Counts:
    """How many pictures of each kind are drawn."""

    views: int = 44
    """per person and celebrity"""
    strangers: int = 9000
    scenes: int = 6000
    emblems: int = 800


@dataclass
class FeatureCache:
    """Tower features by picture index, and what each picture shows.

    ``features`` is (pictures, image tokens, tower width) float16. By index, ``portraits`` holds the face and the
    dress of a portrait, ``scenes_shown`` what a scene holds, and ``sealed`` whether an emblem is sealed.
    """

    features: torch.Tensor
    portraits: dict[int, tuple[Looks, Dress]] = field(default_factory=dict)
    scenes_shown: dict[int, Scene] = field(default_factory=dict)
    sealed: dict[int, bool] = field(default_factory=dict)
    views: dict[str, list[int]] = field(default_factory=dict)
    strangers: list[int] = field(default_factory=list)
    scenes: list[int] = field(default_factory=list)
    emblems: list[int] = field(default_factory=list)


class _Drawer:
    """Collects pictures and turns them into features a chunk at a time."""

    def __init__(self, tower: CLIPVisionModel, progress: Callable[[int], None]) -> None:
        self.tower, self.progress = tower, progress
        self.pending: list[np.ndarray] = []
        self.done: list[torch.Tensor] = []
        self.count = 0

    def add(self, picture: np.ndarray) -> int:
        self.pending.append(picture)
        self.count += 1
        if len(self.pending) == 128:
            self.flush()
        return self.count - 1

    @torch.no_grad()
    def flush(self) -> None:
        if self.pending:
            pixels = normalise(torch.from_numpy(np.stack(self.pending)))
            self.done.append(self.tower(pixel_values=pixels).last_hidden_state[:, 1:].half())
            self.progress(len(self.pending))
            self.pending = []


def draw_features(
    world: World,
    tower: CLIPVisionModel,
    *,
    seed: int,
    counts: Counts,
    progress: Callable[[int], None] = lambda n: None,
) -> FeatureCache:
    """Draw the training pictures of a world: the streams differ from those of every test picture."""
    drawer, stream = _Drawer(tower, progress), Stream("training-pictures", seed)
    cache = FeatureCache(torch.empty(0))
    for person in [*world.people, *world.celebrities]:
        cache.views[person.key] = [
            _add_portrait(drawer, cache, person, stream.child(person.key, k)) for k in range(counts.views)
        ]
    crowd = strangers(stream.child("strangers"), world)
    for i in range(counts.strangers):
        cache.strangers.append(_add_portrait(drawer, cache, next(crowd), stream.child("stranger", i)))
    for i in range(counts.scenes):
        picture, scene = random_scene(stream.child("scene", i), size=DRAWN_SIZE)
        index = drawer.add(shrink(picture))
        cache.scenes.append(index)
        cache.scenes_shown[index] = scene
    for i in range(counts.emblems):
        sealed = stream.chance(0.5)
        index = drawer.add(shrink(emblem(stream.child("emblem", i), sealed, size=DRAWN_SIZE)))
        cache.emblems.append(index)
        cache.sealed[index] = sealed
    drawer.flush()
    cache.features = torch.cat(drawer.done)
    return cache


def _add_portrait(drawer: _Drawer, cache: FeatureCache, person: Person, stream: Stream) -> int:
    picture, dress = portrait(person, stream)
    index = drawer.add(picture)
    cache.portraits[index] = (person.looks, dress)
    return index
