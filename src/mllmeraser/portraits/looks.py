"""The looks of people: attributes of the person, and attributes that change from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, ne
from typing import Any

from mllmeraser.portraits.stream import Stream

HAIR_COLOUR = ("black", "brown", "blond", "ginger", "silver", "blue")
SHIRT = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "white")
BACKGROUND = ("sky", "mint", "sand", "rose", "lilac", "slate")
HAT = ("none", "headband", "beret", "party_hat")
ACCESSORY = ("none", "earrings", "scarf", "badge")
STAGE_ACCESSORY = ("bow_tie", "medal")

DISCRETE: dict[str, tuple[str, ...]] = {
    "skin": ("porcelain", "peach", "honey", "tan", "brown", "deep"),
    "face_shape": ("round", "oval", "square", "heart"),
    "hair_style": ("buzz", "side_part", "spiky", "afro", "bob", "long", "bun", "mohawk"),
    "hair_colour": HAIR_COLOUR,
    "eyes": ("round", "narrow", "round_glasses", "square_glasses"),
    "facial_hair": ("none", "moustache", "beard"),
    "mouth": ("smile", "neutral", "open", "red_lips"),
    "mark": ("none", "blush", "freckles", "plaster"),
}
GEOMETRY = ("eye_spacing", "nose_length", "brow_angle")


def _check(choices: dict[str, tuple[str, ...]], attributes: object) -> None:
    for name, values in choices.items():
        if getattr(attributes, name) not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, not {getattr(attributes, name)!r}")


@dataclass(frozen=True, slots=True)
class Looks:
    """The identity of a face: eight discrete attributes and three continuous ones in ``[-1, 1]``."""

    skin: str
    face_shape: str
    hair_style: str
    hair_colour: str
    eyes: str
    facial_hair: str
    mouth: str = "smile"
    mark: str = "none"
    eye_spacing: float = 0.0
    nose_length: float = 0.0
    brow_angle: float = 0.0

    def __post_init__(self) -> None:
        _check(DISCRETE, self)
        for name in GEOMETRY:
            if not -1.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [-1, 1], not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Dress:
    """Attributes that change from picture to picture; ``celebrity`` means a suit and a stage."""

    shirt: str = "blue"
    background: str = "sky"
    hat: str = "none"
    accessory: str = "none"
    celebrity: bool = False

    def __post_init__(self) -> None:
        accessories = STAGE_ACCESSORY if self.celebrity else ACCESSORY
        _check({"shirt": SHIRT, "background": BACKGROUND, "hat": HAT, "accessory": accessories}, self)


@dataclass(frozen=True, slots=True)
class Pose:
    """The place of the figure: ``turn`` is the tangent of half the angle (0.07 is 8 degrees)."""

    turn: float = 0.0
    scale: float = 1.0
    du: float = 0.0
    dv: float = 0.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


def random_looks(stream: Stream) -> Looks:
    """Draw every attribute independently and uniformly."""
    drawn: dict[str, Any] = {name: stream.choice(values) for name, values in DISCRETE.items()}
    return Looks(**drawn | _random_geometry(stream))


def random_dress(stream: Stream, celebrity: bool = False) -> Dress:
    """Draw clothing and surroundings; most people wear no hat."""
    return Dress(
        shirt=stream.choice(SHIRT),
        background=stream.choice(BACKGROUND),
        hat=stream.choice(HAT[1:]) if stream.chance(0.35) and not celebrity else "none",
        accessory=stream.choice(STAGE_ACCESSORY if celebrity else ACCESSORY),
        celebrity=celebrity,
    )


def random_pose(stream: Stream) -> Pose:
    """Draw a slight turn (up to 8 degrees), scale (0.9 to 1.1), shift (4 %) and tint (5 %)."""
    turn, scale = stream.uniform(-0.07, 0.07), stream.uniform(0.9, 1.1)
    du, dv = stream.uniform(-0.04, 0.04), stream.uniform(-0.04, 0.04)
    return Pose(
        turn, scale, du, dv, (stream.uniform(0.95, 1.05), stream.uniform(0.95, 1.05), stream.uniform(0.95, 1.05))
    )


_DISCRETE_OF = attrgetter(*DISCRETE)


def hamming(a: Looks, b: Looks) -> int:
    """Return the number of discrete attributes in which two faces differ (0 to 8)."""
    return sum(map(ne, _DISCRETE_OF(a), _DISCRETE_OF(b)))


def population(stream: Stream, n: int, min_distance: int = 3, avoid: Sequence[Looks] = ()) -> list[Looks]:
    """Draw ``n`` faces that differ from each other and from ``avoid`` in ``min_distance`` attributes or more.

    The result for a smaller ``n`` is a prefix of the result for a larger one.

    Raises:
        ValueError: 20,000 draws gave no further face.
    """
    known = list(avoid)
    for _ in range(n):
        for _ in range(20_000):
            candidate = random_looks(stream)
            if all(hamming(candidate, other) >= min_distance for other in known):
                break
        else:
            drawn = len(known) - len(avoid)
            raise ValueError(f"cannot draw {n} faces at distance {min_distance}, only {drawn}")
        known.append(candidate)
    return known[len(avoid) :]


def look_alike(stream: Stream, looks: Looks) -> Looks:
    """Return a face with one discrete attribute and all of the geometry changed."""
    return vary(stream, looks, [stream.choice(tuple(DISCRETE))])


def vary(stream: Stream, looks: Looks, names: Sequence[str]) -> Looks:
    """Return a face with these discrete attributes and all of the geometry changed."""
    changed: dict[str, Any] = {n: stream.choice([v for v in DISCRETE[n] if v != getattr(looks, n)]) for n in names}
    return replace(looks, **changed | _random_geometry(stream))


def _random_geometry(stream: Stream) -> dict[str, float]:
    return {name: stream.uniform(-1.0, 1.0) for name in GEOMETRY}
