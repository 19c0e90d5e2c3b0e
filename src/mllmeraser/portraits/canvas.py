"""A canvas that composites shapes in order, through a similarity transformation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mllmeraser.portraits.raster import Array, Colour, Image, Shape


@lru_cache(maxsize=8)
def _centres(size: int) -> tuple[Array, Array]:
    """Coordinates of the pixel centres in ``[-0.5, 0.5]``, both of shape ``(size, size)``; read-only."""
    line = (np.arange(size, dtype=np.float64) + 0.5) / size - 0.5
    return np.repeat(line[None, :], size, axis=0), np.repeat(line[:, None], size, axis=1)


class Canvas:
    """RGB canvas of ``size`` by ``size`` pixels, filled with one colour (0 to 255)."""

    def __init__(self, size: int, colour: Colour = (255.0, 255.0, 255.0)) -> None:
        self.size = size
        self.pixels = np.empty((3, size, size))
        self.pixels[...] = np.array(colour)[:, None, None]
        self.place()

    def place(self, turn: float = 0.0, scale: float = 1.0, du: float = 0.0, dv: float = 0.0) -> None:
        """Set the place of the figure coordinates on the canvas for all later shapes.

        ``turn`` is the tangent of half the angle, so that cosine ``(1-t^2)/(1+t^2)`` and sine ``2t/(1+t^2)`` are
        rational. ``scale`` enlarges; ``du`` and ``dv`` shift by fractions of the canvas.
        """
        norm = 1.0 + turn * turn
        c, s = (1.0 - turn * turn) / norm, 2.0 * turn / norm
        x, y = _centres(self.size)
        if turn or scale != 1.0 or du or dv:
            x, y = (x - du) / scale, (y - dv) / scale
            x, y = c * x + s * y, c * y - s * x
        self._u, self._v = x, y
        self._affine = (c * scale, s * scale, du, dv)
        self._sharpness = self.size * scale

    def fill(self, shape: Shape, colour: Colour, alpha: float = 1.0) -> None:
        """Paint the shape over the canvas; edge pixels mix in proportion to their covered area."""
        window = self._window(shape)
        if window is None:
            return
        cover = shape.distance(self._u[window], self._v[window])
        cover *= -self._sharpness
        cover += 0.5
        np.minimum(np.maximum(cover, 0.0, out=cover), 1.0, out=cover)
        if alpha != 1.0:
            cover *= alpha
        region = self.pixels[:, window[0], window[1]]
        change = np.array(colour, dtype=np.float64)[:, None, None] - region
        change *= cover
        region += change

    def image(self, tint: Colour = (1.0, 1.0, 1.0)) -> Image:
        """Return the picture as uint8 ``(size, size, 3)``, its channels multiplied by ``tint``."""
        pixels = np.rint(self.pixels * np.array(tint, dtype=np.float64)[:, None, None])
        return np.ascontiguousarray(np.clip(pixels, 0.0, 255.0).astype(np.uint8).transpose(1, 2, 0))

    def _window(self, shape: Shape) -> tuple[slice, slice] | None:
        """Rows and columns that the shape can touch, or None."""
        u0, v0, u1, v1 = shape.box
        a, b, du, dv = self._affine
        size = self.size
        middle_u, middle_v, half_u, half_v = (u0 + u1) / 2, (v0 + v1) / 2, (u1 - u0) / 2, (v1 - v0) / 2
        if half_u < 0 or half_v < 0:
            return None
        x, y = a * middle_u - b * middle_v + du, b * middle_u + a * middle_v + dv
        wide, high = a * half_u + abs(b) * half_v, abs(b) * half_u + a * half_v
        left, right = int((x - wide + 0.5) * size) - 1, int((x + wide + 0.5) * size) + 2
        top, bottom = int((y - high + 0.5) * size) - 1, int((y + high + 0.5) * size) + 2
        left, right, top, bottom = max(left, 0), min(right, size), max(top, 0), min(bottom, size)
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)
