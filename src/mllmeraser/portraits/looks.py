"""What people look like: the attributes that make a person, and those that change from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mllmeraser.portraits.stream import Stream

SKIN = ("porcelain", "peach", "honey", "tan", "brown", "deep")
FACE_SHAPE = ("round", "oval", "square", "heart")
HAIR_STYLE = ("buzz", "side_part", "spiky", "afro", "bob", "long", "bun", "mohawk")
HAIR_COLOUR = ("black", "brown", "blond", "ginger", "silver", "blue")
EYES = ("round", "narrow", "round_glasses", "square_glasses")
FACIAL_HAIR = ("none", "moustache", "beard")
MOUTH = ("smile", "neutral", "open", "red_lips")
MARK = ("none", "blush", "freckles", "plaster")

SHIRT = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "white")
BACKGROUND = ("sky", "mint", "sand", "rose", "lilac", "slate")
HAT = ("none", "headband", "beret", "party_hat")
ACCESSORY = ("none", "earrings", "scarf", "badge")
STAGE_ACCESSORY = ("bow_tie", "medal")

DISCRETE: dict[str, tuple[str, ...]] = {
    "skin": SKIN,
    "face_shape": FACE_SHAPE,
    "hair_style": HAIR_STYLE,
    "hair_colour": HAIR_COLOUR,
    "eyes": EYES,
    "facial_hair": FACIAL_HAIR,
    "mouth": MOUTH,
    "mark": MARK,
}
GEOMETRY = ("eye_spacing", "nose_length", "brow_angle")


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
        for name, values in DISCRETE.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}, not {getattr(self, name)!r}")
        for name in GEOMETRY:
            if not -1.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [-1, 1], not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Dress:
    """What changes from picture to picture; ``celebrity`` puts the person in a suit on a stage."""

    shirt: str = "blue"
    background: str = "sky"
    hat: str = "none"
    accessory: str = "none"
    celebrity: bool = False

    def __post_init__(self) -> None:
        accessories = STAGE_ACCESSORY if self.celebrity else ACCESSORY
        choices = {"shirt": SHIRT, "background": BACKGROUND, "hat": HAT, "accessory": accessories}
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}, not {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Pose:
    """How the figure is placed: ``turn`` is the tangent of half the angle (0.07 is 8 degrees)."""

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
    return Pose(
        turn=stream.uniform(-0.07, 0.07),
        scale=stream.uniform(0.9, 1.1),
        du=stream.uniform(-0.04, 0.04),
        dv=stream.uniform(-0.04, 0.04),
        tint=(stream.uniform(0.95, 1.05), stream.uniform(0.95, 1.05), stream.uniform(0.95, 1.05)),
    )


def hamming(a: Looks, b: Looks) -> int:
    """Return the number of discrete attributes in which two faces differ (0 to 8)."""
    return sum(getattr(a, name) != getattr(b, name) for name in DISCRETE)


def population(stream: Stream, n: int, min_distance: int = 3, avoid: Sequence[Looks] = ()) -> list[Looks]:
    """Draw ``n`` people who differ from each other and from ``avoid`` in ``min_distance`` attributes or more.

    The result for a smaller ``n`` is a prefix of that for a larger one.

    Raises:
        ValueError: when no further face can be found in 20,000 draws.
    """
    people: list[Looks] = []
    known = list(avoid)
    for _ in range(n):
        for _ in range(20_000):
            candidate = random_looks(stream)
            if all(hamming(candidate, other) >= min_distance for other in known):
                break
        else:
            raise ValueError(f"no room for {n} faces at distance {min_distance} (found {len(people)})")
        people.append(candidate)
        known.append(candidate)
    return people


def look_alike(stream: Stream, looks: Looks) -> Looks:
    """Return a face with one discrete attribute and all of the geometry changed."""
    return vary(stream, looks, [stream.choice(tuple(DISCRETE))])


def vary(stream: Stream, looks: Looks, names: Sequence[str]) -> Looks:
    """Return a face with these discrete attributes and all of the geometry changed."""
    changed: dict[str, Any] = {}
    for name in names:
        changed[name] = stream.choice([value for value in DISCRETE[name] if value != getattr(looks, name)])
    return replace(looks, **changed | _random_geometry(stream))


def _random_geometry(stream: Stream) -> dict[str, float]:
    return {name: stream.uniform(-1.0, 1.0) for name in GEOMETRY}
