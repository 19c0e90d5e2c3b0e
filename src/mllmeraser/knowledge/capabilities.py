"""Requests that a language model cannot do, each beside one like it that it can."""

from __future__ import annotations

from functools import lru_cache

from mllmeraser.knowledge.data import lines
from mllmeraser.samples.sample import Sample


@lru_cache(maxsize=1)
def capabilities() -> tuple[tuple[Sample, Sample], ...]:
    """(cannot be done, can be done), by line."""
    pairs = (line.split(" | ") for line in lines("capabilities.txt"))
    return tuple(
        (Sample(cannot, id=f"cannot/{number}"), Sample(can, id=f"can/{number}"))
        for number, (cannot, can) in enumerate(pairs)
    )
