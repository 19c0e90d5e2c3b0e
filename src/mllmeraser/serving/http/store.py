"""Erasers from the ledger, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.serving.ledger import ActiveEraser, Ledger
from mllmeraser.serving.ledger.artifacts import checksums
from mllmeraser.serving.ledger.erasers import eraser_of


class Store:
    """Erasers by digest, each read once and checked.

    The digest is that of the tensors alone. Once nobody uses it, the ledger may keep other settings with the same
    tensors under it: what is held counts only as long as all files are those that it was made from.
    """

    def __init__(self, ledger: Ledger, fingerprint: str) -> None:
        """``fingerprint`` is the model's, which every eraser has to be made for."""
        self._ledger, self._fingerprint = ledger, fingerprint
        self._held: dict[str, tuple[Mapping[str, str], Eraser]] = {}

    def load(self, digest: str) -> Eraser:
        """The eraser of a digest.

        Raises:
            ArtifactError: It is missing, corrupt, or made for another model.
            LedgerError: The ledger cannot be read.
        """
        sums, eraser = self._held.get(digest, (None, None))
        if eraser is None or sums != self._ledger.checksums(digest):
            files = self._ledger.artifact(digest)
            eraser = self._checked(digest, eraser_of(files))
            self._held[digest] = (checksums(files), eraser)
        return eraser

    def _checked(self, digest: str, eraser: Eraser) -> Eraser:
        if eraser.digest() != digest:
            raise ArtifactError("an artifact is not what the ledger says it is: fit it again")
        if eraser.config.fingerprint != self._fingerprint:
            raise ArtifactError("an eraser is made for another model than this server's")
        return eraser

    def load_all(self, entries: Iterable[ActiveEraser]) -> dict[str, Eraser]:
        """Erasers by name; whatever is no longer asked for is let go.

        Raises:
            ArtifactError: As `load`.
        """
        found = {entry.name: (entry.artifact_digest, self.load(entry.artifact_digest)) for entry in entries}
        kept = {digest for digest, _ in found.values()}
        self._held = {digest: held for digest, held in self._held.items() if digest in kept}
        return {name: eraser for name, (_, eraser) in found.items()}
