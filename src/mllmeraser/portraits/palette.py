"""Colours of skin, hair, clothes and surroundings, well apart from each other."""

from __future__ import annotations

from mllmeraser.portraits.raster import Colour

INK: Colour = (30.0, 30.0, 38.0)
WHITE: Colour = (255.0, 255.0, 255.0)


def colours(text: str) -> dict[str, Colour]:
    """Colours by name, from "name rrggbb, name rrggbb" in hexadecimal notation."""
    channels = {name: bytes.fromhex(code) for name, code in (pair.split() for pair in text.split(", "))}
    return {name: (float(rgb[0]), float(rgb[1]), float(rgb[2])) for name, rgb in channels.items()}


SKINS = colours("porcelain ffe6d6, peach f7be9e, honey e0a862, tan ba7a4e, brown 885236, deep 58362e")
LIPS = colours("porcelain c84048, peach ba343c, honey a83230, tan 802026, brown c85c58, deep c46060")
HAIRS = colours("black 26222a, brown 703e1e, blond f6d058, ginger d6581c, silver c4cad4, blue 4068dc")
SHIRTS = colours(
    "red d63238, orange f28c28, yellow fada46, green 3e9e50, teal 1e96a0, blue 325cbe, purple 8048b0, white f6f6fa"
)
BACKGROUNDS = colours("sky 96ccee, mint 9edcba, sand e8d4ac, rose f4b4be, lilac c4b2e8, slate 8090a0")


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor below 1) or lighter."""
    return min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return ``a`` with the given share of ``b``."""
    keep = 1.0 - share
    return a[0] * keep + b[0] * share, a[1] * keep + b[1] * share, a[2] * keep + b[2] * share
