"""Prompts of an operator about everybody else: for fits and verifications on a model of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mllmeraser.erasure.fit.split import salted_digest
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class ReferenceSets:
    """Prompts of the operator about people and things other than the forgotten.

    Attributes:
        retain: About people and things that the model knows; fits calibrate on them.
        strangers: About people that it does not know.
        verification: As `retain`, kept apart: verifications ask them.
    """

    retain: tuple[Sample, ...] = ()
    strangers: tuple[Sample, ...] = ()
    verification: tuple[Sample, ...] = ()

    @classmethod
    def read(cls, retain: Path | None, strangers: Path | None, verification: Path | None) -> ReferenceSets:
        """Read the sets from folders, JSONL or parquet.

        Raises:
            InputError: One cannot be read, some are given and others not, or a prompt is in two of them.
        """
        given = {"--retain": retain, "--strangers": strangers, "--verify-with": verification}
        missing = [name for name, path in given.items() if path is None]
        if missing and len(missing) < len(given):
            raise InputError(f"{', '.join(missing)} is missing: give all of {', '.join(given)}, or none")
        found = cls(*(() if path is None else tuple(read_samples(path)) for path in given.values()))
        shared = {s.digest() for s in found.verification} & {s.digest() for s in (*found.retain, *found.strangers)}
        if shared:
            raise InputError(
                f"{len(shared)} prompts of --verify-with are in --retain or --strangers too: take them out"
            )
        return found

    def samples(self) -> tuple[Sample, ...]:
        """All samples."""
        return (*self.retain, *self.strangers, *self.verification)

    def digests(self, salt: str) -> dict[str, str]:
        """Salted digests and numbers of prompts, for the audit."""
        parts = {"retain": self.retain, "strangers": self.strangers, "verification": self.verification}
        digests = {name: salted_digest(own, salt) for name, own in parts.items()}
        return {**digests, **{f"n_{name}": str(len(own)) for name, own in parts.items()}}
