"""Portraits: a flat avatar from `Looks` (the identity), `Dress` (the clothes) and `Pose` (the place).

Figure coordinates: the head is centred at the origin and about 0.37 wide; ``v`` grows downwards.
"""

from __future__ import annotations

from mllmeraser.portraits import hair, wardrobe
from mllmeraser.portraits.canvas import Canvas
from mllmeraser.portraits.combine import Both, Minus, Mirrored, Outline
from mllmeraser.portraits.looks import Dress, Looks, Pose
from mllmeraser.portraits.palette import HAIRS, INK, LIPS, SKINS, mix, shade
from mllmeraser.portraits.raster import Circle, Colour, Ellipse, HalfPlane, Image, Line, Rectangle, Shape

HEADS: dict[str, Ellipse] = {
    "round": Ellipse(0.0, 0.0, 0.205, 0.2),
    "oval": Ellipse(0.0, 0.01, 0.165, 0.235, 0.06),
    "square": Ellipse(0.0, 0.0, 0.188, 0.205, 0.0, True),
    "heart": Ellipse(0.0, 0.015, 0.178, 0.225, 0.3),
}


def draw_face(looks: Looks, dress: Dress | None = None, pose: Pose | None = None, size: int = 128) -> Image:
    """Draw a portrait.

    Returns:
        uint8 array of shape ``(size, size, 3)``, the same bytes on every machine. Every attribute stays visible at a
        ``size`` of 64 pixels or more.
    """
    dress = dress or Dress()
    pose = pose or Pose()
    canvas = Canvas(size, wardrobe.backdrop_colour(dress))
    wardrobe.backdrop(canvas, dress)
    canvas.place(pose.turn, pose.scale, pose.du, pose.dv - 0.035)
    head = HEADS[looks.face_shape]
    skin, colour = SKINS[looks.skin], HAIRS[looks.hair_colour]
    hair.behind(canvas, looks.hair_style, head, colour)
    _body(canvas, skin, dress)
    _head(canvas, head, skin)
    _features(canvas, looks, skin)
    _mark(canvas, looks, skin)
    if looks.facial_hair != "none":
        _facial_hair(canvas, looks, head, colour)
    _mouth(canvas, looks)
    hair.front(canvas, looks.hair_style, head, colour, skin)
    _brows(canvas, looks, colour)
    if looks.eyes.endswith("glasses"):
        _glasses(canvas, looks)
    wardrobe.on_head(canvas, dress, head)
    return canvas.image(pose.tint)


def _body(canvas: Canvas, skin: Colour, dress: Dress) -> None:
    canvas.fill(Rectangle(0.0, 0.22, 0.075, 0.14, 0.04), skin)
    canvas.fill(Both(Rectangle(0.0, 0.22, 0.075, 0.14, 0.04), Ellipse(0.0, 0.07, 0.16, 0.19)), shade(skin, 0.8))
    wardrobe.clothes(canvas, dress, skin)


def _head(canvas: Canvas, head: Ellipse, skin: Colour) -> None:
    ear = head.ru * (0.99 if not head.square else 0.97)
    canvas.fill(Mirrored(Ellipse(ear, 0.0, 0.038, 0.05)), skin)
    canvas.fill(Mirrored(Ellipse(ear + 0.008, 0.0, 0.02, 0.03)), shade(skin, 0.82))
    canvas.fill(head, skin)


def _eye(looks: Looks) -> float:
    """Distance of an eye from the middle."""
    return 0.082 + 0.016 * looks.eye_spacing


def _features(canvas: Canvas, looks: Looks, skin: Colour) -> None:
    eye = _eye(looks)
    white: Colour = (255.0, 255.0, 255.0)
    if looks.eyes == "narrow":
        canvas.fill(Mirrored(Ellipse(eye, -0.004, 0.043, 0.017)), white)
        canvas.fill(Mirrored(Ellipse(eye, -0.003, 0.018, 0.017)), INK)
        canvas.fill(Mirrored(Line(((eye - 0.044, -0.012), (eye, -0.021), (eye + 0.046, -0.014)), 0.014)), INK)
    else:
        canvas.fill(Mirrored(Circle(eye, -0.004, 0.034)), white)
        canvas.fill(Mirrored(Circle(eye, -0.002, 0.022)), INK)
        canvas.fill(Mirrored(Circle(eye + 0.007, -0.01, 0.007)), white)
    tip = 0.058 + 0.018 * looks.nose_length
    dark = shade(skin, 0.74)
    canvas.fill(Line(((0.012, 0.0), (0.018, tip - 0.01), (-0.014, tip)), 0.016), dark)


def _brows(canvas: Canvas, looks: Looks, colour: Colour) -> None:
    eye, lift = _eye(looks), 0.017 * looks.brow_angle
    brow = Line(((eye - 0.042, -0.072 + lift), (eye + 0.004, -0.08), (eye + 0.044, -0.07 - lift)), 0.02)
    canvas.fill(Mirrored(brow), shade(colour, 0.72))


def _mouth(canvas: Canvas, looks: Looks) -> None:
    v = 0.112 + 0.008 * looks.nose_length
    if looks.mouth == "neutral":
        canvas.fill(Line(((-0.045, v + 0.006), (0.045, v + 0.006)), 0.017), INK)
    elif looks.mouth == "open":
        canvas.fill(Ellipse(0.0, v + 0.012, 0.034, 0.036), INK)
        canvas.fill(Ellipse(0.0, v + 0.03, 0.022, 0.016), (222.0, 92.0, 104.0))
    elif looks.mouth == "red_lips":
        canvas.fill(Ellipse(0.0, v + 0.008, 0.056, 0.024), (205.0, 16.0, 46.0))
        canvas.fill(Line(((-0.05, v + 0.008), (0.05, v + 0.008)), 0.008), (110.0, 6.0, 26.0))
    else:
        smile = Minus(Ellipse(0.0, v, 0.058, 0.042), Rectangle(0.0, v - 0.05, 0.1, 0.05))
        canvas.fill(smile, LIPS[looks.skin])
        canvas.fill(Both(smile, Rectangle(0.0, v, 0.044, 0.013, 0.0)), (255.0, 255.0, 255.0))


def _mark(canvas: Canvas, looks: Looks, skin: Colour) -> None:
    if looks.mark == "blush":
        canvas.fill(Mirrored(Circle(0.118, 0.068, 0.042)), mix(skin, (255.0, 60.0, 110.0), 0.65))
    elif looks.mark == "freckles":
        for u, v in ((0.085, 0.05), (0.12, 0.045), (0.102, 0.075), (0.138, 0.07), (0.07, 0.08)):
            canvas.fill(Mirrored(Circle(u, v, 0.0115)), shade(skin, 0.52))
    elif looks.mark == "plaster":
        canvas.fill(Line(((-0.165, 0.05), (-0.075, 0.09)), 0.05), (250.0, 225.0, 190.0))
        canvas.fill(Line(((-0.132, 0.064), (-0.108, 0.076)), 0.046), (232.0, 150.0, 120.0))


def _facial_hair(canvas: Canvas, looks: Looks, head: Ellipse, colour: Colour) -> None:
    v = 0.112 + 0.008 * looks.nose_length
    if looks.facial_hair == "moustache":
        half = Line(((0.008, v - 0.012), (0.05, v - 0.013), (0.082, v + 0.008)), 0.034)
        canvas.fill(Mirrored(half), shade(colour, 0.9))
        return
    jaw = Ellipse(head.u, head.v + 0.008, head.ru + 0.008, head.rv + 0.018, head.taper, head.square)
    cheeks = Ellipse(0.0, -0.03, head.ru * 0.86, 0.135)
    canvas.fill(Minus(Both(jaw, HalfPlane((0.0, 0.02), (0.0, -1.0))), cheeks), shade(colour, 0.9))


def _glasses(canvas: Canvas, looks: Looks) -> None:
    eye = _eye(looks)
    if looks.eyes == "round_glasses":
        lens: Shape = Circle(eye, -0.002, 0.062)
        width, colour = 0.018, (150.0, 24.0, 52.0)
    else:
        lens = Rectangle(eye, -0.002, 0.062, 0.046, 0.014)
        width, colour = 0.024, INK
    canvas.fill(Mirrored(lens), (255.0, 255.0, 255.0), 0.22)
    canvas.fill(Mirrored(Outline(lens, width)), colour)
    canvas.fill(Rectangle(0.0, -0.012, max(eye - 0.06, 0.01), width / 2), colour)
    canvas.fill(Mirrored(Rectangle(eye + 0.088, -0.012, 0.028, width / 2)), colour)
