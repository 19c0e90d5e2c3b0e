"""The retained people whom an eraser is most likely to take for its subjects."""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.score_prompts import read_gate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.progress import Progress
from mllmeraser.serving.verify.held_back import person_prompts

NAME, FACE = 0, 2
"""Places of the gates that look for a name and for a face among the read layers of an `identity` decision."""


def nearest(
    model: MultimodalModel,
    eraser: Eraser,
    people: Sequence[Person],
    seed: int,
    n: int,
    *,
    by_name: bool,
    progress: Progress | None = None,
) -> list[Person]:
    """The `n` people who come nearest by the gate, the nearest first.

    Each is asked about once, over a new picture, and ranked by the face gate; with `by_name` (a request without
    pictures) in text, and ranked by the name gate. An eraser that does not tell faces from names ranks by its score.
    """
    stream = Stream("verification", seed, "candidates")
    asked = [person_prompts(person, stream.child(person.key), 2)[1 if by_name else 0] for person in people]
    seen = read_gate(model, eraser, asked, progress=progress)
    scores = seen.pooled
    if eraser.config.policy.pooling == "subject":
        scores = seen.layers[eraser.config.read_layers[NAME if by_name else FACE]].amax(-1)
    return [people[row] for row in scores.argsort(descending=True)[:n].tolist()]
