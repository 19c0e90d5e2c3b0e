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

FOLDER = Path(__file__).parent / "flags"


@lru_cache(maxsize=64)
def drawing(key: str) -> Image.Image:
    """The flag of a country, RGBA."""
    return Image.open(FOLDER / f"{key}.png").convert("RGBA")


def draw_flag(key: str, stream: Stream, *, size: int = SIZE, rough: bool = True) -> np.ndarray:
    """A view of a flag: (size, size, 3) uint8. It hangs before a plain wall; half of the `rough` views are degraded."""
    flag = drawing(key)
    wall = tuple(int(stream.uniform(40, 230)) for _ in range(3))
    width = int(size * stream.uniform(0.72, 0.96))
    height = min(int(width * flag.height / flag.width), int(size * 0.92))
    turned = flag.resize((width, height), Image.Resampling.BICUBIC).rotate(
        stream.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True
    )
    picture = Image.new("RGBA", (size, size), (*wall, 255))
    left = int((size - turned.width) * stream.uniform(0.2, 0.8))
    top = int((size - turned.height) * stream.uniform(0.2, 0.8))
    picture.alpha_composite(_within(turned, left, top), (max(0, left), max(0, top)))
    shade = np.asarray(picture.convert("RGB"), dtype=np.float64) * stream.uniform(0.8, 1.05)
    view = np.clip(shade, 0, 255).astype(np.uint8)
    return degrade(view, stream) if rough and stream.chance(0.5) else view


def _within(picture: Image.Image, left: int, top: int) -> Image.Image:
    """Cut off what lies beyond the left and the upper edge."""
    return picture.crop((max(0, -left), max(0, -top), picture.width, picture.height))
