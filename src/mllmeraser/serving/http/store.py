"""Erasers of the ledger, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.serving.ledger import ActiveEraser, Ledger
from mllmeraser.serving.ledger.artifacts import checksums
from mllmeraser.serving.ledger.erasers import eraser_of


class Store:
    """Erasers by digest, each read and checked once.

    The digest covers the tensors only. Once it is unused, the ledger may store the same tensors with other settings
    under it. So a cached eraser is valid only while the checksums of all its files match.
    """

    def __init__(self, ledger: Ledger, fingerprint: str) -> None:
        """``fingerprint`` of the model that every eraser must be made for."""
        self._ledger, self._fingerprint = ledger, fingerprint
        self._cache: dict[str, tuple[Mapping[str, str], Eraser]] = {}

    def load(self, digest: str) -> Eraser:
        """The eraser of a digest.

        Raises:
            ArtifactError: It is missing, corrupt, or made for another model.
            LedgerError: The ledger cannot be read.
        """
        sums, eraser = self._cache.get(digest, (None, None))
        if eraser is None or sums != self._ledger.checksums(digest):
            files = self._ledger.artifact(digest)
            eraser = eraser_of(files)
            if eraser.digest() != digest:
                raise ArtifactError("an artifact is not what the ledger says it is: fit it again")
            if eraser.config.fingerprint != self._fingerprint:
                raise ArtifactError("an eraser is made for another model than this server's")
            self._cache[digest] = (checksums(files), eraser)
        return eraser

    def load_all(self, entries: Iterable[ActiveEraser]) -> dict[str, Eraser]:
        """Erasers by name; all others leave the cache.

        Raises:
            ArtifactError: As `load`.
        """
        digests = {entry.name: entry.artifact_digest for entry in entries}
        erasers = {name: self.load(digest) for name, digest in digests.items()}
        self._cache = {digest: self._cache[digest] for digest in set(digests.values())}
        return erasers
