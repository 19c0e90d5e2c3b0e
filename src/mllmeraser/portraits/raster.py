"""Anti-aliased drawing with signed distances, in numpy alone.

The code uses only ``+ - * /``, square roots, minima, maxima and comparisons on float64: IEEE 754 rounds them the same
way everywhere. It uses no sine, exponential or matrix product. So the same call gives the same bytes on every machine
and with every library version.

Coordinates are ``(u, v)`` in ``[-0.5, 0.5]``, ``u`` to the right and ``v`` downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Colour = tuple[float, float, float]
Box = tuple[float, float, float, float]
Point = tuple[float, float]


class Shape(Protocol):
    """A bounding box and a signed distance, negative inside."""

    @property
    def box(self) -> Box:
        """Smallest and largest coordinates ``(u0, v0, u1, v1)``."""

    def distance(self, u: Array, v: Array) -> Array:
        """Return the signed distance at every point, exact near the outline."""


@dataclass(frozen=True, slots=True)
class Ellipse:
    """Ellipse around ``(u, v)``; ``taper`` narrows its lower end, ``square`` makes it a superellipse of degree four."""

    u: float
    v: float
    ru: float
    rv: float
    taper: float = 0.0
    square: bool = False

    @property
    def box(self) -> Box:
        """Bounding box; taper widens the upper end beyond ``ru``."""
        wide = self.ru * (1.0 + abs(self.taper))
        return self.u - wide, self.v - self.rv, self.u + wide, self.v + self.rv

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the outline along the ray from the centre."""
        du, dv = u - self.u, v - self.v
        y = dv * (1.0 / self.rv)
        x = du * (1.0 / self.ru)
        if self.taper:
            x /= np.maximum(1.0 - self.taper * y, 0.2)
        if self.square:
            x *= x
            y *= y
        level = np.sqrt(_sum_of_squares(x, y))
        if self.square:
            level = np.sqrt(level)
        # Along the ray from the centre: |p| (1 - 1/level).
        return np.sqrt(_sum_of_squares(du, dv)) * (1.0 - 1.0 / np.maximum(level, 1e-6))


@dataclass(frozen=True, slots=True)
class Circle:
    """Disc of radius ``r`` around ``(u, v)``."""

    u: float
    v: float
    r: float

    @property
    def box(self) -> Box:
        """Bounding box."""
        return self.u - self.r, self.v - self.r, self.u + self.r, self.v + self.r

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the circle, exact everywhere."""
        return np.sqrt(_sum_of_squares(u - self.u, v - self.v)) - self.r


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Rectangle around ``(u, v)`` with half widths ``hu`` and ``hv`` and corners of radius ``r``."""

    u: float
    v: float
    hu: float
    hv: float
    r: float = 0.0

    @property
    def box(self) -> Box:
        """Bounding box."""
        return self.u - self.hu, self.v - self.hv, self.u + self.hu, self.v + self.hv

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the outline; outside a corner without radius, the larger distance to its two sides."""
        du = np.abs(u - self.u) - (self.hu - self.r)
        dv = np.abs(v - self.v) - (self.hv - self.r)
        if not self.r:
            return np.maximum(du, dv)
        inside = np.minimum(np.maximum(du, dv), 0.0)
        return np.sqrt(_sum_of_squares(np.maximum(du, 0.0), np.maximum(dv, 0.0))) + inside - self.r


@dataclass(frozen=True, slots=True)
class Line:
    """Open polyline of the given width with round ends."""

    points: tuple[Point, ...]
    width: float

    @property
    def box(self) -> Box:
        """Bounding box."""
        return _around(self.points, self.width / 2)

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the nearest segment, less half the width."""
        segments = [_segment(u, v, a, b) for a, b in pairwise(self.points)]
        return np.sqrt(reduce(np.minimum, segments)) - self.width / 2


@dataclass(frozen=True, slots=True)
class Polygon:
    """Filled simple polygon, convex or not, with corners rounded outwards by ``r``."""

    points: tuple[Point, ...]
    r: float = 0.0

    @property
    def box(self) -> Box:
        """Bounding box."""
        return _around(self.points, self.r)

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the nearest edge, negative inside by the even-odd rule, less the radius."""
        nearest = np.full(np.broadcast(u, v).shape, 1e9)
        inside = np.zeros(nearest.shape, dtype=bool)
        for a, b in zip(self.points, self.points[1:] + self.points[:1], strict=True):
            np.minimum(nearest, _segment(u, v, a, b), out=nearest)
            if a[1] != b[1]:
                slope = (b[0] - a[0]) / (b[1] - a[1])
                inside ^= ((v < a[1]) != (v < b[1])) & (u < a[0] + (v - a[1]) * slope)
        np.sqrt(nearest, out=nearest)
        return np.where(inside, -nearest, nearest) - self.r


@dataclass(frozen=True, slots=True)
class HalfPlane:
    """The side of the line through ``point`` that lies opposite to ``outward``."""

    point: Point
    outward: Point

    @property
    def box(self) -> Box:
        """Larger than the canvas at every place."""
        return -2.0, -2.0, 2.0, 2.0

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the line."""
        a, b = self.outward
        length = sqrt(a * a + b * b)
        offset = (self.point[0] * a + self.point[1] * b) / length
        result: Array = u * (a / length) + v * (b / length) - offset
        return result


def _around(points: Sequence[Point], margin: float) -> Box:
    us, vs = [p[0] for p in points], [p[1] for p in points]
    return min(us) - margin, min(vs) - margin, max(us) + margin, max(vs) + margin


def _segment(u: Array, v: Array, a: Point, b: Point) -> Array:
    """Squared distance to the segment from ``a`` to ``b``."""
    eu, ev = b[0] - a[0], b[1] - a[1]
    du, dv = u - a[0], v - a[1]
    along = du * (eu / (eu * eu + ev * ev)) + dv * (ev / (eu * eu + ev * ev))
    np.minimum(np.maximum(along, 0.0, out=along), 1.0, out=along)
    return _sum_of_squares(du - along * eu, dv - along * ev)


def _sum_of_squares(x: Array, y: Array) -> Array:
    """``x * x + y * y``, computed in place of ``x`` and ``y``."""
    x *= x
    y *= y
    x += y
    return x
