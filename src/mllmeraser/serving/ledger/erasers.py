"""Conversion between erasers and the files in the ledger. A module of its own because it needs torch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mllmeraser.erasure.artifact.eraser import Eraser, read_files
from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.samples.subject import KIND_COUNT
from mllmeraser.serving.ledger.entries import Entry
from mllmeraser.serving.ledger.ledger import Ledger


@dataclass(frozen=True)
class Artifact:
    """An eraser in the form that the ledger stores.

    Attributes:
        files: Its two files by name.
        config: Its manifest.
    """

    files: Mapping[str, bytes]
    config: EraserConfig

    @property
    def digest(self) -> str:
        """SHA-256 of the tensor file."""
        return self.config.tensors_sha256

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the model that it was fitted on."""
        return self.config.fingerprint


def artifact_from_folder(folder: Path) -> Artifact:
    """Read the eraser in a folder, once, and validate it.

    Raises:
        ArtifactError: If it is missing, corrupt, inconsistent, or of a newer format.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder")
    return artifact_from_files(read_files(folder, str(folder)), str(folder))


def artifact_of(eraser: Eraser) -> Artifact:
    """The artifact of an eraser in memory."""
    with tempfile.TemporaryDirectory() as scratch:
        return artifact_from_folder(eraser.save_pretrained(Path(scratch) / "eraser"))


def eraser_of(files: Mapping[str, bytes]) -> Eraser:
    """Load an eraser from the files that `Ledger.artifact` returned.

    Raises:
        ArtifactError: If they are not the files of a valid eraser.
    """
    return Eraser.from_files(files)


def artifact_from_files(files: Mapping[str, bytes], source: str = "eraser") -> Artifact:
    """Validate the two files of an eraser, by name; errors call the place `source`.

    Raises:
        ArtifactError: As `artifact_from_folder`.
    """
    return Artifact(files, Eraser.from_files(files, source).config)


def add(ledger: Ledger, artifact: Artifact, name: str, *, by: str, tenant: str | None, default: bool) -> Entry:
    """Add an existing eraser to the ledger: `Ledger.add` with the fields of an `Artifact`."""
    return ledger.add(
        name,
        by=by,
        artifact=artifact.files,
        fingerprint=artifact.fingerprint,
        digest=artifact.digest,
        tenant=tenant,
        default=default,
        digests=_digests(artifact.config),
    )


def _digests(config: EraserConfig) -> dict[str, str]:
    """Digests and counts of the data of an eraser, no personal data."""
    data = {key: str(value) for key, value in config.data.model_dump(exclude={"counts"}).items() if value}
    sizes = sorted(config.data.counts.items())
    counts = {key if key.startswith(KIND_COUNT) else f"n_{key}": str(count) for key, count in sizes}
    return {**data, **counts, "subjects": ",".join(config.subjects)}
