"""How one training picture is drawn: by the portraits world, shrunk as the processor shrinks it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.looks import random_dress, random_pose
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.scenes import degrade, emblem, random_scene
from mllmeraser.portraits.stream import Stream

DRAWN_SIZE = 128
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def shrink(picture: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 to (56, 56, 3) uint8, with the filter of the image processor (bicubic)."""
    image = Image.fromarray(picture).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.array(image)


def draw_portrait(person: Person, stream: Stream, *, rough: float = 0.7) -> np.ndarray:
    """A person in new clothes (the stream's first ``random_dress``); now and then cropped, turned and tinted."""
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = shrink(draw_face(person.looks, dress, random_pose(stream), size=DRAWN_SIZE))
    if stream.chance(rough):  # after shrinking: five times cheaper, and blur would weigh more here
        picture = degrade(picture, stream, blur=False)
    return picture


def draw_scene(stream: Stream) -> np.ndarray:
    """The scene that ``random_things`` makes of the same stream."""
    return shrink(random_scene(stream, size=DRAWN_SIZE)[0])


def draw_emblem(stream: Stream, sealed: bool) -> np.ndarray:
    """A badge, crossed out and locked if ``sealed``."""
    return shrink(emblem(stream, sealed, size=DRAWN_SIZE))


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (n, IMAGE_SIZE, IMAGE_SIZE, 3) to the processor's pixel values (n, 3, IMAGE_SIZE, IMAGE_SIZE)."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def jitter(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pixel values turned by up to 6 degrees, scaled and moved by up to 7 %, and tinted by up to 8 % a channel."""
    n = len(pixels)

    def draw(*shape: int) -> torch.Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    turn, size = 0.1 * draw(n), 1 + 0.07 * draw(n)
    rows = torch.stack([size * turn.cos(), -size * turn.sin(), size * turn.sin(), size * turn.cos()], 1)
    place = torch.cat([rows.reshape(n, 2, 2), 0.14 * draw(n, 2, 1)], dim=2)
    grid = torch.nn.functional.affine_grid(place, list(pixels.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return moved * (1 + 0.08 * draw(n, 3, 1, 1)) + 0.08 * draw(n, 1, 1, 1)
