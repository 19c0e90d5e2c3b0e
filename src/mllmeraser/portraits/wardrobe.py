"""Clothes, hats, accessories and backdrops: the parts of a portrait without identity."""

from __future__ import annotations

from mllmeraser.portraits.canvas import Canvas
from mllmeraser.portraits.combine import Both, Mirrored, Outline
from mllmeraser.portraits.looks import Dress
from mllmeraser.portraits.palette import BACKGROUNDS, INK, SHIRTS, WHITE, mix, shade
from mllmeraser.portraits.raster import Circle, Colour, Ellipse, HalfPlane, Line, Polygon, Rectangle

CURTAIN: Colour = (110.0, 22.0, 52.0)
GOLD: Colour = (250.0, 196.0, 60.0)
ACCENT: dict[str, Colour] = {name: shade(colour, 0.72) for name, colour in SHIRTS.items()}
TORSO = Rectangle(0.0, 0.66, 0.3, 0.385, 0.16)


def backdrop_colour(dress: Dress) -> Colour:
    """Return the colour that fills the canvas first."""
    return CURTAIN if dress.celebrity else BACKGROUNDS[dress.background]


def backdrop(canvas: Canvas, dress: Dress) -> None:
    """Draw a large disc, or for celebrities a stage with curtain and spotlight."""
    colour = BACKGROUNDS[dress.background]
    if not dress.celebrity:
        canvas.fill(Circle(0.0, 0.02, 0.44), mix(colour, WHITE, 0.35))
        return
    for u in (-0.4, -0.2, 0.0, 0.2, 0.4):
        canvas.fill(Rectangle(u, 0.0, 0.035, 0.6), shade(CURTAIN, 0.72))
    beam = Polygon(((-0.06, -0.6), (0.06, -0.6), (0.42, 0.6), (-0.42, 0.6)))
    canvas.fill(beam, mix(colour, WHITE, 0.5), 0.75)


def clothes(canvas: Canvas, dress: Dress, skin: Colour) -> None:
    """Draw a shirt, or a suit with collar for celebrities, and the accessory."""
    colour = SHIRTS[dress.shirt]
    canvas.fill(TORSO, colour)
    if dress.celebrity:
        _suit(canvas, dress, colour)
        return
    canvas.fill(Ellipse(0.0, 0.275, 0.1, 0.075), ACCENT[dress.shirt])
    canvas.fill(Ellipse(0.0, 0.268, 0.08, 0.062), skin)
    canvas.fill(Mirrored(Line(((0.2, 0.43), (0.19, 0.6)), 0.012)), ACCENT[dress.shirt])
    if dress.accessory == "scarf":
        scarf: Colour = (238.0, 84.0, 120.0) if dress.shirt not in ("red", "purple") else (80.0, 200.0, 190.0)
        canvas.fill(Ellipse(0.0, 0.285, 0.125, 0.055), scarf)
        canvas.fill(Rectangle(0.06, 0.38, 0.036, 0.09, 0.012), shade(scarf, 0.85))
    elif dress.accessory == "badge":
        canvas.fill(Circle(0.15, 0.4, 0.038), WHITE)
        canvas.fill(Circle(0.15, 0.4, 0.026), (230.0, 60.0, 60.0) if dress.shirt != "red" else (50.0, 92.0, 190.0))


def _suit(canvas: Canvas, dress: Dress, colour: Colour) -> None:
    canvas.fill(Polygon(((-0.09, 0.26), (0.09, 0.26), (0.0, 0.62))), WHITE)
    canvas.fill(Mirrored(Polygon(((0.085, 0.235), (0.16, 0.3), (0.02, 0.6), (0.005, 0.6)))), shade(colour, 0.7))
    canvas.fill(Mirrored(Polygon(((0.066, 0.225), (0.098, 0.3), (0.03, 0.33), (0.0, 0.29)))), (232.0, 234.0, 240.0))
    if dress.accessory == "bow_tie":
        canvas.fill(Mirrored(Polygon(((0.0, 0.305), (0.085, 0.27), (0.085, 0.35), (0.0, 0.318)), 0.008)), INK)
        canvas.fill(Circle(0.0, 0.311, 0.02), (90.0, 90.0, 104.0))
    else:
        canvas.fill(Mirrored(Line(((0.08, 0.28), (0.004, 0.4)), 0.026)), (60.0, 90.0, 200.0))
        canvas.fill(Circle(0.0, 0.415, 0.045), shade(GOLD, 0.75))
        canvas.fill(Circle(0.0, 0.415, 0.034), GOLD)


def on_head(canvas: Canvas, dress: Dress, head: Ellipse) -> None:
    """Draw hat and earrings; hats are small, so the hair style stays visible."""
    top = head.v - head.rv
    if dress.accessory == "earrings":
        canvas.fill(Mirrored(Circle(head.ru + 0.014, 0.062, 0.019)), GOLD)
    if dress.hat == "headband":
        band = Outline(Ellipse(0.0, top + 0.25, head.ru + 0.035, 0.19), 0.036)
        canvas.fill(Both(band, HalfPlane((0.0, -0.06), (0.0, 1.0))), (240.0, 70.0, 130.0))
    elif dress.hat == "beret":
        canvas.fill(Ellipse(0.1, top + 0.02, 0.15, 0.065), (170.0, 30.0, 46.0))
        canvas.fill(Line(((0.1, top - 0.04), (0.115, top - 0.07)), 0.018), (130.0, 20.0, 34.0))
    elif dress.hat == "party_hat":
        cone = Polygon(((0.02, top + 0.03), (0.16, top + 0.065), (0.135, top - 0.14)), 0.006)
        canvas.fill(cone, (90.0, 70.0, 200.0))
        canvas.fill(Circle(0.136, top - 0.145, 0.027), GOLD)
        canvas.fill(Circle(0.085, top + 0.0, 0.016), GOLD)
        canvas.fill(Circle(0.125, top - 0.05, 0.014), GOLD)
