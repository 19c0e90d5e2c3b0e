"""Samples with earlier turns before the question."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mllmeraser.samples.sample import Sample


@dataclass(frozen=True, slots=True)
class ContextSample(Sample):
    """A sample that is asked after others were asked and answered.

    Attributes:
        shots: What was asked before, oldest first, each with its answer and, where it has one, its own picture; a
            shot's own context does not count.
    """

    shots: tuple[Sample, ...] = ()

    def digest(self) -> str:
        """As that of a Sample, over the whole conversation."""
        # A dataclass with slots is made anew, and a bare super() would look for the class it was made from.
        digest = hashlib.sha256(Sample.digest(self).encode())
        for shot in self.shots:
            digest.update(f"\0{shot.digest()}\0{shot.answer}".encode())
        return digest.hexdigest()


def shots_of(sample: Sample) -> tuple[Sample, ...]:
    """What stands before the question of a sample; nothing for most."""
    return sample.shots if isinstance(sample, ContextSample) else ()
