"""Conversion between erasers and the files in the ledger. A module of its own because it needs torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mllmeraser.erasure.artifact.eraser import CONFIG_FILE, TENSOR_FILE, Eraser
from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.serving.ledger.entries import Entry
from mllmeraser.serving.ledger.ledger import Ledger


@dataclass(frozen=True)
class Artifact:
    """An eraser in the form that the ledger stores.

    Attributes:
        files: Its two files by name. `digest` is the SHA-256 of the tensor file.
        digests: Digests and counts of its data from its manifest, no personal data.
    """

    files: Mapping[str, bytes]
    digest: str
    fingerprint: str
    digests: Mapping[str, str]


def artifact_from_folder(folder: Path) -> Artifact:
    """Read and validate the eraser in a folder.

    Raises:
        ArtifactError: If it is missing, corrupt, inconsistent, of a newer format, or changes during the read.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder")
    config = Eraser.from_pretrained(folder).config
    try:
        files = {name: (folder / name).read_bytes() for name in (CONFIG_FILE, TENSOR_FILE)}
        same = EraserConfig.from_json(files[CONFIG_FILE].decode(), str(folder)) == config
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{folder}: cannot be read ({error})") from error
    if not same or hashlib.sha256(files[TENSOR_FILE]).hexdigest() != config.tensors_sha256:
        raise ArtifactError(f"{folder}: changed while it was read: try again")
    return Artifact(files, config.tensors_sha256, config.fingerprint, _digests(config))


def artifact_of(eraser: Eraser) -> Artifact:
    """The artifact of an eraser in memory."""
    with tempfile.TemporaryDirectory() as scratch:
        return artifact_from_folder(eraser.save_pretrained(Path(scratch) / "eraser"))


def eraser_of(files: Mapping[str, bytes]) -> Eraser:
    """Load an eraser from the files that `Ledger.artifact` returned.

    Raises:
        ArtifactError: If they are not the files of a valid eraser.
    """
    with _folder_of(files) as folder:
        return Eraser.from_pretrained(folder)


def artifact_from_files(files: Mapping[str, bytes]) -> Artifact:
    """Validate the two files of an eraser, by name.

    Raises:
        ArtifactError: As `artifact_from_folder`.
    """
    with _folder_of(files) as folder:
        return artifact_from_folder(folder)


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
        digests=artifact.digests,
    )


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "eraser"  # this name appears in errors
        folder.mkdir()
        for name in (CONFIG_FILE, TENSOR_FILE):
            if name not in files:
                raise ArtifactError(f"the stored artifact is not an eraser: {name} is missing")
            (folder / name).write_bytes(files[name])
        yield folder


def _digests(config: EraserConfig) -> dict[str, str]:
    data = {key: str(value) for key, value in config.data.model_dump(exclude={"counts"}).items() if value}
    counts = {f"n_{key}": str(count) for key, count in sorted(config.data.counts.items())}
    return {**data, **counts, "subjects": ",".join(config.subjects)}
