"""Shapes made of other shapes: intersection, union, difference, outline, mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from mllmeraser.portraits.raster import Array, Box, Shape


@dataclass(frozen=True, slots=True)
class Both:
    """Intersection of two shapes."""

    first: Shape
    second: Shape

    @property
    def box(self) -> Box:
        """The intersection of both bounding boxes; if it is empty, its ends are in the wrong order."""
        a, b = self.first.box, self.second.box
        return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])

    def distance(self, u: Array, v: Array) -> Array:
        """The larger distance."""
        return np.maximum(self.first.distance(u, v), self.second.distance(u, v))


@dataclass(frozen=True, slots=True)
class Either:
    """Union of shapes."""

    shapes: tuple[Shape, ...]

    @property
    def box(self) -> Box:
        """The box around all bounding boxes."""
        u0, v0, u1, v1 = zip(*(shape.box for shape in self.shapes), strict=True)
        return min(u0), min(v0), max(u1), max(v1)

    def distance(self, u: Array, v: Array) -> Array:
        """The smallest distance."""
        return reduce(np.minimum, [shape.distance(u, v) for shape in self.shapes])


@dataclass(frozen=True, slots=True)
class Minus:
    """The first shape without the second."""

    first: Shape
    second: Shape

    @property
    def box(self) -> Box:
        """Bounding box of the first shape."""
        return self.first.box

    def distance(self, u: Array, v: Array) -> Array:
        """The larger of the first distance and the negated second."""
        return np.maximum(self.first.distance(u, v), -self.second.distance(u, v))


@dataclass(frozen=True, slots=True)
class Outline:
    """A band of the given width along the outline of a shape."""

    shape: Shape
    width: float

    @property
    def box(self) -> Box:
        """Bounding box of the shape, wider by half the band."""
        u0, v0, u1, v1 = self.shape.box
        half = self.width / 2
        return u0 - half, v0 - half, u1 + half, v1 + half

    def distance(self, u: Array, v: Array) -> Array:
        """Distance to the outline, less half the width."""
        return np.abs(self.shape.distance(u, v)) - self.width / 2


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A shape on the right (``u > 0``) and its mirror image on the left, at the cost of one shape."""

    shape: Shape

    @property
    def box(self) -> Box:
        """Bounding box of both halves."""
        _, v0, u1, v1 = self.shape.box
        return -u1, v0, u1, v1

    def distance(self, u: Array, v: Array) -> Array:
        """Distance at the mirror point on the right."""
        return self.shape.distance(np.abs(u), v)
