"""The eight hair styles: the hair behind the head, and the hair in front."""

from __future__ import annotations

from mllmeraser.portraits.canvas import Canvas
from mllmeraser.portraits.combine import Both, Either, Minus, Mirrored
from mllmeraser.portraits.palette import mix, shade
from mllmeraser.portraits.raster import Circle, Colour, Ellipse, HalfPlane, Polygon, Rectangle, Shape


def behind(canvas: Canvas, style: str, head: Ellipse, colour: Colour) -> None:
    """Draw the part of the hair that the head, neck and body cover."""
    dark = shade(colour, 0.84)
    top = head.v - head.rv
    wide = head.ru
    if style == "afro":
        curls = [Circle(0.0, top + 0.06, 0.15), *_mirror_circles(wide)]
        canvas.fill(Either(tuple(curls)), colour)
    elif style == "bob":
        canvas.fill(Rectangle(0.0, top + 0.19, wide + 0.055, 0.225, 0.13), dark)
    elif style == "long":
        canvas.fill(Rectangle(0.0, top + 0.27, wide + 0.06, 0.31, 0.16), dark)
    elif style == "bun":
        canvas.fill(Circle(0.0, top - 0.055, 0.085), colour)
        canvas.fill(Ellipse(0.0, top + 0.01, 0.05, 0.02), shade(colour, 0.7))
    elif style == "mohawk":
        canvas.fill(Rectangle(0.0, top + 0.02, 0.06, 0.13, 0.05), colour)


def front(canvas: Canvas, style: str, head: Ellipse, colour: Colour, skin: Colour) -> None:
    """Draw the part of the hair that covers the head, with a thin shadow under the hairline."""
    top = head.v - head.rv
    shape = _front(style, head, top)
    if style in ("buzz", "mohawk"):
        stubble = mix(colour, skin, 0.0 if style == "buzz" else 0.5)
        canvas.fill(shape, stubble)
        if style == "mohawk":
            canvas.fill(Rectangle(0.0, top + 0.02, 0.06, 0.1, 0.045), colour)
        return
    canvas.fill(shape, colour)


def _front(style: str, head: Ellipse, top: float) -> Shape:
    wide = head.ru
    if style == "buzz":
        return Minus(_cap(head, 0.008, -0.07), Ellipse(0.0, top + 0.22, wide * 0.86, 0.14, 0.0, True))
    if style == "mohawk":
        return Minus(_cap(head, 0.004, -0.06), Ellipse(0.0, top + 0.24, wide * 0.86, 0.15, 0.0, True))
    if style == "side_part":
        swoop = Either((_cap(head, 0.028, -0.02), Ellipse(-0.05, top + 0.005, wide * 0.8, 0.05)))
        return Minus(swoop, Either((Ellipse(0.1, top + 0.25, wide * 1.0, 0.165), Circle(-0.02, top + 0.3, 0.165))))
    if style == "spiky":
        return _spikes(wide, top)
    if style == "afro":
        return Minus(_cap(head, 0.03, -0.02), Ellipse(0.0, top + 0.24, wide * 0.88, 0.15))
    if style == "bob":
        fringe = Rectangle(0.0, top + 0.235, wide * 0.8, 0.12, 0.03)
        return Minus(_cap(head, 0.04, 0.09), fringe)
    if style == "long":
        curtain = Polygon(((0.0, top + 0.05), (wide * 0.86, top + 0.2), (wide * 0.8, 0.4)), 0.02)
        return Minus(_cap(head, 0.04, 0.1), Mirrored(curtain))
    return Minus(_cap(head, 0.018, -0.04), Ellipse(0.0, top + 0.25, wide * 0.9, 0.17))


def _cap(head: Ellipse, thickness: float, lower: float) -> Shape:
    """The head made thicker, above the line ``v = lower``."""
    shell = Ellipse(head.u, head.v, head.ru + thickness, head.rv + thickness, head.taper, head.square)
    return Both(shell, HalfPlane((0.0, lower), (0.0, 1.0)))


def _spikes(wide: float, top: float) -> Shape:
    low, high = top + 0.09, top - 0.075
    step = wide / 3
    points = [(-wide - 0.012, -0.03), (-wide - 0.05, low - 0.03)]
    for i in range(-2, 3):
        points += [((i - 0.35) * step * 1.1, top + 0.015), (i * step * 1.15, high + 0.018 * i * i)]
    points += [(wide * 0.95, top + 0.06), (wide + 0.05, low - 0.03), (wide + 0.012, -0.03)]
    points += [(wide * 0.8, low + 0.01), (wide * 0.4, low - 0.02), (wide * 0.15, low + 0.02)]
    points += [(-wide * 0.25, low - 0.02), (-wide * 0.5, low + 0.015), (-wide * 0.85, low)]
    return Polygon(tuple(points), 0.006)


def _mirror_circles(wide: float) -> list[Shape]:
    places = ((0.14, -0.16, 0.11), (wide + 0.03, -0.06, 0.1), (wide + 0.01, 0.04, 0.08))
    return [Mirrored(Circle(u, v, r)) for u, v, r in places]
