"""How much room below the boundary between two faces? ``python -m mllmeraser.studies.room``.

Everybody of the first forget set who was planned a look-alike that stays gets erasers from one, two, four and eight
pictures; fresh pictures of both show, for several widths of the room, how often the forgotten person is missed and how
often the other one is taken for them. Room moves one threshold of the face gate: nothing is fitted twice. *Hindsight*
is the boundary that nobody can know beforehand, set for each pair on the fresh pictures themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.gates import Gate
from mllmeraser.erasure.gates.look_alikes import ROOM
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.models.loading import load_model
from mllmeraser.portraits.people import Person, World
from mllmeraser.portraits.prompts import pictures_of
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.crowd import Crowd
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import Share

PICTURES = (1, 2, 4, 8)
"""Of a request."""
ROOMS = (0.0, 0.1, ROOM, 0.3, 0.5, math.inf)
"""As a share of the distance between two means; with room without end no two faces are told apart one by one."""
FRESH = 40
"""Pictures of everybody that no fit has seen."""
MAY_MISS = 0.05
"""Share of a forgotten person's fresh pictures that hindsight lets pass."""
STEP = 0.01
"""Between the rooms that hindsight tries."""


def doubles(world: World, gone: Sequence[str]) -> dict[str, Person]:
    """Who of those to be forgotten looks like somebody that stays, and like whom."""
    found = {p.key: other for p in world.people if p.key in gone for kind, other in world.neighbours(p)
             if kind == "look-alike"}  # fmt: skip
    return {key: other for key, other in found.items() if other.key not in gone}


def with_margin(gate: Gate, room: float) -> Gate:
    """A face gate as fitted with another room."""
    return Gate(gate.kind, {**gate.tensors, "least": gate.tensors["least"] + ROOM - room})


def taken(gate: Gate, states: Tensor) -> list[bool]:
    """On which faces (n, d) the gate opens."""
    return (gate.score(states.to(gate.tensors["scale"])) > 0).tolist()


def decided(
    gates: Mapping[str, Gate], faces: Mapping[str, Tensor], alike: Mapping[str, str], room: float, *, seed: int
) -> dict[str, Share]:
    """Pictures of the forgotten that pass as somebody else's, and those of look-alikes that pass as theirs.

    Args:
        gates: Of each forgotten person.
        faces: (pictures, d) states of everybody.
        alike: Who looks like each forgotten person.
        room: Below the boundary.
        seed: Of the intervals, over people.
    """
    moved = {key: with_margin(gate, room) for key, gate in gates.items()}
    return _counted(moved, faces, alike, seed)


def in_hindsight(
    gates: Mapping[str, Gate], faces: Mapping[str, Tensor], alike: Mapping[str, str], *, seed: int
) -> dict[str, Share]:
    """As `decided`, with the least room for each person that misses no more than `MAY_MISS` of these very pictures.

    Room below 0 puts the boundary beyond the subject's own pictures. What is still taken then, the face gate cannot
    tell apart, whatever the rule that sets its boundary.
    """
    moved = {key: with_margin(gate, _least_room(gate, faces[key])) for key, gate in gates.items()}
    return _counted(moved, faces, alike, seed)


def _least_room(gate: Gate, own: Tensor) -> float:
    rooms = [STEP * step for step in range(-200, 201)]
    enough = (room for room in rooms if taken(with_margin(gate, room), own).count(False) <= MAY_MISS * len(own))
    return next(enough, math.inf)


def _counted(
    gates: Mapping[str, Gate], faces: Mapping[str, Tensor], alike: Mapping[str, str], seed: int
) -> dict[str, Share]:
    missed = {key: [not hit for hit in taken(gate, faces[key])] for key, gate in gates.items()}
    alarms = {key: taken(gate, faces[alike[key]]) for key, gate in gates.items()}
    return {"missed": _share(missed, seed), "taken for them": _share(alarms, seed)}


def _share(found: Mapping[str, Sequence[bool]], seed: int) -> Share:
    values = [hit for hits in found.values() for hit in hits]
    people = [key for key, hits in found.items() for _ in hits]
    interval = share_interval(values, people, seed=seed)
    return {"share": sum(values) / len(values), "low": interval.low, "high": interval.high, "n": len(values)}


def face_gate(eraser: Eraser) -> Gate:
    """The gate of the third layer that an eraser reads."""
    return eraser.gate(eraser.config.read_layers[2])


def faces_of(crowd: Crowd, people: Sequence[Person], count: int) -> dict[str, Tensor]:
    """(pictures, d) states of so many fresh pictures of everybody."""
    found = {}
    for person in people:
        shown = pictures_of(person, crowd.world.stream.child("room", person.key), count)
        cache = crowd.cache.of([Sample("Who is this?", picture) for picture in shown])
        found[person.key] = torch.cat([prompt.image for prompt in cache])
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("room", __doc__, "room-NAME.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model)
    crowd = Crowd(
        model, benchmark, FitSettings.preset("default").model_copy(update={"seed": args.seed, "salt": "room"})
    )
    alike = doubles(crowd.world, benchmark.forget_ids("forget_5", 0))
    everybody = [person for person in crowd.world.people if person.key in alike] + list(alike.values())
    faces = faces_of(crowd, everybody, FRESH)
    names = {key: other.key for key, other in alike.items()}
    for pictures in PICTURES:
        gates = {key: face_gate(crowd.person(key, pictures)) for key in alike}
        found: dict[str, Any] = {_name(room): decided(gates, faces, names, room, seed=args.seed) for room in ROOMS}
        best = in_hindsight(gates, faces, names, seed=args.seed)
        report.add(f"{pictures} pictures", {"pictures": pictures, "rooms": found, "hindsight": best})
        print(report[f"{pictures} pictures"], flush=True)


def _name(room: float) -> str:
    return "no boundary" if math.isinf(room) else f"{room:g}"


if __name__ == "__main__":
    main()
