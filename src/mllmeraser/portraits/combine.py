"""Shapes made of other shapes: intersection, union, difference, outline, mirror image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mllmeraser.portraits.raster import Array, Box, Shape


@dataclass(frozen=True, slots=True)
class Both:
    """Intersection of two shapes."""

    first: Shape
    second: Shape

    @property
    def box(self) -> Box:
        """What both bounding boxes cover; its ends are in the wrong order if they do not meet."""
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
        boxes = [shape.box for shape in self.shapes]
        return (
            min(box[0] for box in boxes),
            min(box[1] for box in boxes),
            max(box[2] for box in boxes),
            max(box[3] for box in boxes),
        )

    def distance(self, u: Array, v: Array) -> Array:
        """The smallest distance."""
        result = self.shapes[0].distance(u, v)
        for shape in self.shapes[1:]:
            result = np.minimum(result, shape.distance(u, v))
        return result


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
    """A shape on the right (``u > 0``) together with its mirror image on the left, at the price of one."""

    shape: Shape

    @property
    def box(self) -> Box:
        """Bounding box of both halves."""
        _, v0, u1, v1 = self.shape.box
        return -u1, v0, u1, v1

    def distance(self, u: Array, v: Array) -> Array:
        """Distance at the point folded to the right."""
        return self.shape.distance(np.abs(u), v)
