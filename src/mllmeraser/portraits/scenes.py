"""Shape scenes for general knowledge, emblems for refusals, and the degradation of test views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mllmeraser.portraits.canvas import Canvas
from mllmeraser.portraits.combine import Outline
from mllmeraser.portraits.palette import INK, WHITE, colours
from mllmeraser.portraits.raster import Circle, Colour, Ellipse, Image, Line, Polygon, Rectangle, Shape
from mllmeraser.portraits.stream import Stream

SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
PAINTS = colours(
    "red dc282d, orange f5911e, yellow fae13c, green 28a046, blue 2850d2, purple 8c3cb4, brown 784826, black 19191c"
)
COLOURS = tuple(PAINTS)
SIZES = {"small": 0.075, "large": 0.125}
PAPER: tuple[Colour, ...] = ((250.0, 248.0, 240.0), (236.0, 242.0, 248.0), (240.0, 248.0, 238.0))


@dataclass(frozen=True)
class Thing:
    """One shape of a scene; ``x`` and ``y`` in [0, 1], ``y`` grows downwards."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """The things of a scene in the order of drawing; they never overlap."""

    objects: tuple[Thing, ...]


def random_things(stream: Stream) -> Scene:
    """Place up to four shapes that do not overlap, without drawing them."""
    things: list[Thing] = []
    for _ in range(stream.integer(5)):
        for _ in range(40):
            looks = stream.choice(SHAPES), stream.choice(COLOURS), stream.choice(tuple(SIZES))
            thing = Thing(*looks, stream.uniform(0.15, 0.85), stream.uniform(0.15, 0.85))
            if all(_apart(thing, other) for other in things):
                things.append(thing)
                break
    return Scene(tuple(things))


def random_scene(stream: Stream, size: int = 128) -> tuple[Image, Scene]:
    """Draw up to four shapes on paper: the picture, uint8 ``(size, size, 3)``, and its description."""
    scene = random_things(stream)
    canvas = Canvas(size, stream.choice(PAPER))
    for thing in scene.objects:
        _draw(canvas, thing.shape, PAINTS[thing.colour], thing.x - 0.5, thing.y - 0.5, SIZES[thing.size])
    return canvas.image(), scene


def _apart(a: Thing, b: Thing) -> bool:
    distance = 1.25 * (SIZES[a.size] + SIZES[b.size])
    return (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > distance**2


def _draw(canvas: Canvas, shape: str, colour: Colour, u: float, v: float, r: float) -> None:
    shapes: dict[str, tuple[Shape, ...]] = {
        "circle": (Circle(u, v, r),),
        "square": (Rectangle(u, v, 0.88 * r, 0.88 * r),),
        "triangle": (Polygon(((u, v - r), (u + r, v + 0.8 * r), (u - r, v + 0.8 * r))),),
        "cross": (Rectangle(u, v, r, 0.32 * r), Rectangle(u, v, 0.32 * r, r)),
        "ring": (Outline(Circle(u, v, 0.75 * r), 0.45 * r),),
        "diamond": (Polygon(((u, v - r), (u + 0.7 * r, v), (u, v + r), (u - 0.7 * r, v))),),
    }
    for part in shapes[shape]:
        canvas.fill(part, colour)


def emblem(stream: Stream, sealed: bool, size: int = 128) -> Image:
    """A badge with coloured shapes; a sealed one has a cross and a lock on it."""
    canvas = Canvas(size, stream.choice(PAPER))
    turn, scale = stream.uniform(-0.05, 0.05), stream.uniform(0.92, 1.05)
    canvas.place(turn, scale, stream.uniform(-0.03, 0.03), stream.uniform(-0.03, 0.03))
    field, edge = PAINTS[stream.choice(COLOURS[:6])], PAINTS[stream.choice(COLOURS)]
    crest = Polygon(((-0.3, -0.34), (0.3, -0.34), (0.3, 0.08), (0.0, 0.38), (-0.3, 0.08)))
    canvas.fill(crest, field)
    canvas.fill(Outline(crest, 0.035), edge)
    for u, v in ((-0.14, -0.16), (0.14, -0.16), (0.0, 0.1)):
        _draw(canvas, stream.choice(SHAPES), PAINTS[stream.choice(COLOURS)], u, v, 0.095)
    if sealed:
        _seal(canvas)
    return canvas.image()


def _seal(canvas: Canvas) -> None:
    for a, b in (((-0.36, -0.4), (0.36, 0.4)), ((0.36, -0.4), (-0.36, 0.4))):
        canvas.fill(Line((a, b), 0.075), INK)
    canvas.fill(Outline(Ellipse(0.0, -0.06, 0.075, 0.09), 0.04), INK)
    canvas.fill(Rectangle(0.0, 0.05, 0.12, 0.1, 0.02), INK)
    canvas.fill(Circle(0.0, 0.04, 0.03), WHITE)


def degrade(picture: Image, stream: Stream, *, blur: bool = True) -> Image:
    """A rougher copy of a picture: cropped up to 12 %, turned up to 10 degrees, and tinted.

    With ``blur``, half of the copies are also blurred. Both pictures are uint8 ``(size, size, 3)``.
    """
    size = picture.shape[0]
    crop = stream.uniform(0.0, 0.12)
    turn = stream.uniform(-0.0875, 0.0875)
    shift = [stream.uniform(-crop / 2, crop / 2) for _ in range(2)]
    gain = np.array([stream.uniform(0.88, 1.12) for _ in range(3)]) * stream.uniform(0.92, 1.08)
    pixels = _resample(picture.astype(np.float64), turn, 1.0 - crop, shift[0] * size, shift[1] * size) * gain
    if blur and stream.chance(0.5):
        pixels = _blur(pixels)
    return np.clip(np.rint(pixels), 0.0, 255.0).astype(np.uint8)


def _resample(pixels: np.ndarray, turn: float, zoom: float, du: float, dv: float) -> np.ndarray:
    """Bilinear sampling through a similarity transformation; outside, the nearest edge pixel counts."""
    size = pixels.shape[0]
    norm = 1.0 + turn * turn
    c, s = zoom * (1.0 - turn * turn) / norm, zoom * 2.0 * turn / norm
    middle = (size - 1) / 2
    x, y = np.meshgrid(*[np.arange(size, dtype=np.float64) - middle] * 2)
    u = np.clip(c * x + s * y + middle + du, 0.0, size - 1.0)
    v = np.clip(c * y - s * x + middle + dv, 0.0, size - 1.0)
    left, top = np.minimum(u.astype(np.int64), size - 2), np.minimum(v.astype(np.int64), size - 2)
    a, b = (u - left).reshape(-1), (v - top).reshape(-1)
    corner = (top * size + left).reshape(-1)
    channels = [_mixed(channel.reshape(-1), corner, size, a, b) for channel in np.moveaxis(pixels, 2, 0)]
    return np.stack(channels, axis=1).reshape(pixels.shape)


def _mixed(flat: np.ndarray, corner: np.ndarray, size: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One channel at points ``a`` right of and ``b`` below the pixels ``corner`` of rows of ``size`` pixels."""
    upper = flat.take(corner) * (1 - a) + flat.take(corner + 1) * a
    lower = flat.take(corner + size) * (1 - a) + flat.take(corner + size + 1) * a
    mixed: np.ndarray = upper * (1 - b) + lower * b
    return mixed


def _blur(pixels: np.ndarray) -> np.ndarray:
    """Binomial 3 x 3 filter with repeated edges."""
    for axis in (0, 1):
        padded = np.pad(pixels, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
        low, mid, high = (np.take(padded, range(k, k + pixels.shape[axis]), axis) for k in range(3))
        pixels = (low + 2 * mid + high) / 4
    return pixels
