"""Colours of skin, hair, clothes and surroundings, chosen to lie well apart from each other."""

from __future__ import annotations

from mllmeraser.portraits.raster import Colour

INK: Colour = (30.0, 30.0, 38.0)
WHITE: Colour = (255.0, 255.0, 255.0)

SKINS: dict[str, Colour] = {
    "porcelain": (255.0, 230.0, 214.0),
    "peach": (247.0, 190.0, 158.0),
    "honey": (224.0, 168.0, 98.0),
    "tan": (186.0, 122.0, 78.0),
    "brown": (136.0, 82.0, 54.0),
    "deep": (88.0, 54.0, 46.0),
}
LIPS: dict[str, Colour] = {
    "porcelain": (200.0, 64.0, 72.0),
    "peach": (186.0, 52.0, 60.0),
    "honey": (168.0, 50.0, 48.0),
    "tan": (128.0, 32.0, 38.0),
    "brown": (200.0, 92.0, 88.0),
    "deep": (196.0, 96.0, 96.0),
}
HAIRS: dict[str, Colour] = {
    "black": (38.0, 34.0, 42.0),
    "brown": (112.0, 62.0, 30.0),
    "blond": (246.0, 208.0, 88.0),
    "ginger": (214.0, 88.0, 28.0),
    "silver": (196.0, 202.0, 212.0),
    "blue": (64.0, 104.0, 220.0),
}
SHIRTS: dict[str, Colour] = {
    "red": (214.0, 50.0, 56.0),
    "orange": (242.0, 140.0, 40.0),
    "yellow": (250.0, 218.0, 70.0),
    "green": (62.0, 158.0, 80.0),
    "teal": (30.0, 150.0, 160.0),
    "blue": (50.0, 92.0, 190.0),
    "purple": (128.0, 72.0, 176.0),
    "white": (246.0, 246.0, 250.0),
}
BACKGROUNDS: dict[str, Colour] = {
    "sky": (150.0, 204.0, 238.0),
    "mint": (158.0, 220.0, 186.0),
    "sand": (232.0, 212.0, 172.0),
    "rose": (244.0, 180.0, 190.0),
    "lilac": (196.0, 178.0, 232.0),
    "slate": (128.0, 144.0, 160.0),
}


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor below 1) or lighter."""
    return min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return ``a`` with the given share of ``b``."""
    keep = 1.0 - share
    return a[0] * keep + b[0] * share, a[1] * keep + b[1] * share, a[2] * keep + b[2] * share
