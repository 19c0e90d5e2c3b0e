"""Erasers between the ledger, which keeps their two files, and memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from mllmeraser.erasure.eraser import CONFIG_FILE, TENSOR_FILE, Eraser
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.serving.ledger import ActiveEraser, Ledger

FILES = (CONFIG_FILE, TENSOR_FILE)


def files_of(eraser: Eraser) -> dict[str, bytes]:
    """The two files of an eraser by name."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(eraser.save_pretrained(Path(place) / "eraser"))
        return {name: (folder / name).read_bytes() for name in FILES}


def eraser_from(files: Mapping[str, bytes]) -> Eraser:
    """The eraser of two files.

    Raises:
        ArtifactError: They are none, or corrupt.
    """
    with tempfile.TemporaryDirectory() as place:
        for name in FILES:
            if name not in files:
                raise ArtifactError(f"the artifact lacks {name}")
            (Path(place) / name).write_bytes(files[name])
        return Eraser.from_pretrained(place)


class Store:
    """Erasers by digest, each read once and checked."""

    def __init__(self, ledger: Ledger, fingerprint: str) -> None:
        """``fingerprint`` is the model's, which every eraser has to be made for."""
        self._ledger, self._fingerprint = ledger, fingerprint
        self._held: dict[str, Eraser] = {}

    def load(self, digest: str) -> Eraser:
        """The eraser of a digest.

        Raises:
            ArtifactError: It is missing, corrupt, or made for another model.
            LedgerError: The ledger cannot be read.
        """
        if digest not in self._held:
            eraser = eraser_from(self._ledger.artifact(digest))
            if eraser.digest() != digest:
                raise ArtifactError("an artifact is not what the ledger says it is: fit it again")
            if eraser.config.fingerprint != self._fingerprint:
                raise ArtifactError("an eraser is made for another model than this server's")
            self._held[digest] = eraser
        return self._held[digest]

    def load_all(self, entries: Iterable[ActiveEraser]) -> dict[str, Eraser]:
        """Erasers by name; whatever is no longer asked for is let go.

        Raises:
            ArtifactError: As `load`.
        """
        found = {entry.name: (entry.artifact_digest, self.load(entry.artifact_digest)) for entry in entries}
        kept = {digest for digest, _ in found.values()}
        self._held = {digest: eraser for digest, eraser in self._held.items() if digest in kept}
        return {name: eraser for name, (_, eraser) in found.items()}
