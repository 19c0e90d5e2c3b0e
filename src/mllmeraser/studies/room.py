"""How large a margin below the boundary between two faces? ``python -m mllmeraser.studies.room``.

Each person of the first forget set with a look-alike that stays gets erasers from one, two, four and eight pictures.
New pictures of both people show, for several margins, how often the face gate misses the forgotten person and how often
it takes the look-alike for them. The margin moves one threshold of the gate, so nothing is fitted twice. *Hindsight*
sets the boundary of each pair on the new pictures themselves, which no rule can do beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.gates import SubjectGate
from mllmeraser.erasure.settings import SubjectSettings
from mllmeraser.portraits import Person
from mllmeraser.portraits.prompts import pictures_of
from mllmeraser.samples import Sample
from mllmeraser.studies.crowd import Crowd, look_alikes
from mllmeraser.studies.erasers import preset_settings
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import Share, share_of

PICTURES = (1, 2, 4, 8)
"""Of a request."""
FITTED = SubjectSettings().pair_margin
MARGINS = (0.0, 0.1, FITTED, 0.3, 0.5, math.inf)
"""As a share of the distance between two means. An infinite margin removes the boundary."""
FRESH = 40
"""Pictures of each person that no fit has seen."""
MAY_MISS = 0.05
"""Share of a forgotten person's new pictures that hindsight may miss."""
STEP = 0.01
"""Between the margins that hindsight tries."""


def with_margin(gate: SubjectGate, margin: float) -> SubjectGate:
    """A fitted face gate with another margin."""
    return gate.with_bounds_lower_by(margin - FITTED)


def taken(gate: SubjectGate, states: Tensor) -> list[bool]:
    """For each face (n, d), whether the gate opens."""
    return (gate.score(states.to(gate.tensors["scale"])) > 0).tolist()


def decided(
    gates: Mapping[str, SubjectGate], faces: Mapping[str, Tensor], alike: Mapping[str, str], margin: float, *, seed: int
) -> dict[str, Share]:
    """Share of the forgotten people's pictures that are missed, and of the look-alikes' pictures taken for theirs.

    ``gates`` and ``alike`` hold the gate and the look-alike of each forgotten person, ``faces`` the (pictures, d)
    states of everybody.
    """
    return _counted({key: with_margin(gate, margin) for key, gate in gates.items()}, faces, alike, seed)


def in_hindsight(
    gates: Mapping[str, SubjectGate], faces: Mapping[str, Tensor], alike: Mapping[str, str], *, seed: int
) -> dict[str, Share]:
    """As `decided`, with the smallest margin for each person that misses at most `MAY_MISS` of these very pictures.

    A margin below 0 puts the boundary beyond the subject's own pictures. Look-alikes that are still taken cannot be
    separated by the face gate, whatever the rule for its boundary.
    """
    moved = {key: with_margin(gate, _least_margin(gate, faces[key])) for key, gate in gates.items()}
    return _counted(moved, faces, alike, seed)


def _least_margin(gate: SubjectGate, own: Tensor) -> float:
    margins = (STEP * step for step in range(-200, 201))
    return next((m for m in margins if taken(with_margin(gate, m), own).count(False) <= MAY_MISS * len(own)), math.inf)


def _counted(
    gates: Mapping[str, SubjectGate], faces: Mapping[str, Tensor], alike: Mapping[str, str], seed: int
) -> dict[str, Share]:
    missed = [(not hit, key) for key, gate in gates.items() for hit in taken(gate, faces[key])]
    alarms = [(hit, key) for key, gate in gates.items() for hit in taken(gate, faces[alike[key]])]
    sides = {"missed": missed, "taken for them": alarms}
    return {name: share_of([h for h, _ in side], [k for _, k in side], seed=seed) for name, side in sides.items()}


def faces_of(crowd: Crowd, people: Sequence[Person], count: int) -> dict[str, Tensor]:
    """(pictures, d) states of ``count`` new pictures of each person."""
    faces = {}
    for person in people:
        pictures = pictures_of(person, crowd.world.stream.child("room", person.key), count)
        states = crowd.cache.of([Sample("Who is this?", picture) for picture in pictures])
        faces[person.key] = torch.cat([prompt.image for prompt in states])
    return faces


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    args, model, benchmark, report = begin(study_parser("room", __doc__, "room-NAME.json"), argv)
    crowd = Crowd(model, benchmark, preset_settings("default", args.seed, "room"))
    alike = look_alikes(crowd.world, benchmark.forget_ids("forget_5", 0))
    everybody = [person for person in crowd.world.people if person.key in alike] + list(alike.values())
    faces = faces_of(crowd, everybody, FRESH)
    keys = {key: other.key for key, other in alike.items()}
    for pictures in PICTURES:
        erasers = {key: crowd.person(key, pictures) for key in alike}
        # the third layer that an eraser reads is that of the face gate
        read = {key: eraser.gate(eraser.config.read_layers[2]) for key, eraser in erasers.items()}
        gates = {key: gate for key, gate in read.items() if isinstance(gate, SubjectGate)}
        names = {margin: "no boundary" if math.isinf(margin) else f"{margin:g}" for margin in MARGINS}
        by_margin = {name: decided(gates, faces, keys, m, seed=args.seed) for m, name in names.items()}
        best = in_hindsight(gates, faces, keys, seed=args.seed)
        report.add(f"{pictures} pictures", {"pictures": pictures, "rooms": by_margin, "hindsight": best})
        print(report[f"{pictures} pictures"], flush=True)


if __name__ == "__main__":
    main()
