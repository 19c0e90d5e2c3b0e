"""Pictures for training: drawn by the portraits world, shrunk as the processor shrinks them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE
from mllmeraser.portraits.faces import Dress, draw_face, random_dress, random_pose
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.scenes import degrade
from mllmeraser.portraits.stream import Stream

DRAWN_SIZE = 128


def shrink(picture: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8 to (56, 56, 3) uint8, with the filter of the image processor (bicubic)."""
    image = Image.fromarray(picture).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(image)


def portrait(person: Person, stream: Stream, *, rough: float = 0.7) -> tuple[np.ndarray, Dress]:
    """A new picture of a person in new clothes; with probability ``rough`` cropped, turned and tinted.

    Returns:
        The shrunken picture and the dress it shows.
    """
    dress = random_dress(stream, celebrity=person.celebrity)
    picture = draw_face(person.looks, dress, random_pose(stream), size=DRAWN_SIZE)
    picture = shrink(picture)
    if stream.chance(rough):  # after shrinking: five times cheaper, and blur would weigh more here
        picture = degrade(picture, stream, blur=False)
    return picture, dress
