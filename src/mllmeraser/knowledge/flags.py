"""Pictures of flags: a public-domain drawing of each, and views of it as a camera might see it.

The drawings are those of the package `svg-country-flags` 1.2.10, which took them from Wikipedia.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import degrade
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.images import open_image

FOLDER = Path(__file__).parent / "flags"


@lru_cache(maxsize=64)
def drawing(key: str) -> Image.Image:
    """The flag of a country."""
    return open_image(FOLDER / f"{key}.png")


def draw_flag(key: str, stream: Stream, *, size: int = SIZE, rough: bool = True) -> np.ndarray:
    """A view of a flag: (size, size, 3) uint8. It hangs before a plain wall; half of the `rough` views are degraded."""
    flag = drawing(key)
    wall = tuple(int(stream.uniform(40, 230)) for _ in range(3))
    width = int(size * stream.uniform(0.72, 0.96))
    height = min(int(width * flag.height / flag.width), int(size * 0.92))
    turn = stream.uniform(-8, 8)
    turned, shape = (
        picture.resize((width, height), Image.Resampling.BICUBIC).rotate(turn, Image.Resampling.BICUBIC, expand=True)
        for picture in (flag, Image.new("L", flag.size, 255))
    )
    picture = Image.new("RGB", (size, size), (wall[0], wall[1], wall[2]))
    left = int((size - turned.width) * stream.uniform(0.2, 0.8))
    top = int((size - turned.height) * stream.uniform(0.2, 0.8))
    picture.paste(turned, (left, top), shape)
    shade = np.asarray(picture, dtype=np.float64) * stream.uniform(0.8, 1.05)
    view = np.clip(shade, 0, 255).astype(np.uint8)
    return degrade(view, stream) if rough and stream.chance(0.5) else view
