"""Prompts about others as files, as an operator with a model of one's own gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mllmeraser.portraits import World
from mllmeraser.portraits.prompts import default_retain, default_strangers
from mllmeraser.samples import Sample
from mllmeraser.samples.sample import IMPERSONAL

FACTS, FACES, VIEWS = 520, 12, 4


def table(path: Path, samples: Iterable[Sample]) -> Path:
    """Write samples as JSONL, with their pictures beside it."""
    rows = []
    for number, sample in enumerate(samples):
        row = {"question": sample.prompt, "subject": sample.subject, "attribute": sample.attribute}
        if sample.image is not None:
            row["image"] = f"{path.stem}-{number}.png"
            sample.image.save(path.parent / row["image"])
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows))
    return path


def options(folder: Path) -> list[str]:
    """`--retain`, `--strangers` and `--verify-with`, of different prompts."""
    folder.mkdir(exist_ok=True)
    world = World("dev")
    known = [sample for sample in default_retain(world) if sample.attribute not in IMPERSONAL]
    text = [sample for sample in known if sample.image is None]
    people = list(dict.fromkeys(sample.subject for sample in known if sample.image is not None))
    shown = {who: [s for s in known if s.image is not None and s.subject == who][:VIEWS] for who in people[: 2 * FACES]}
    pictures = [[sample for who in own for sample in shown[who]] for own in (people[:FACES], people[FACES : 2 * FACES])]
    sets = {
        "--retain": [*text[:FACTS], *pictures[0]],
        "--strangers": default_strangers(world)[:24],
        "--verify-with": [*text[FACTS : FACTS + 40], *pictures[1][:24]],
    }
    made = {name: table(folder / f"{name.strip('-')}.jsonl", samples) for name, samples in sets.items()}
    return [part for name, path in made.items() for part in (name, str(path))]
