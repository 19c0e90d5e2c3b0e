"""The active set: a version, and the erasers of all active entries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import digest_of
from mllmeraser.serving.ledger.errors import UnknownEraser


@dataclass(frozen=True)
class ActiveEraser:
    """One active eraser."""

    id: str
    name: str
    tenant: str | None
    default: bool
    artifact_digest: str
    fingerprint: str


@dataclass(frozen=True)
class EraserSet:
    """All active erasers at one moment, sorted by name. The version increases by one with every change."""

    version: int
    erasers: tuple[ActiveEraser, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over name, tenant, default and artifact of every eraser. Equal on servers with equal sets."""
        return digest_of([[e.name, e.tenant, e.default, e.artifact_digest] for e in self.erasers])

    def chosen(self, tenant: str | None, wanted: Collection[str] = ()) -> frozenset[str]:
        """Names of the erasers for one request: the defaults for its tenant, and those it asks for.

        Raises:
            UnknownEraser: If a wanted eraser is not active or belongs to another tenant. The message is the same.
        """
        visible = [eraser for eraser in self.erasers if eraser.tenant in (None, tenant)]
        missing = sorted(set(wanted) - {eraser.name for eraser in visible})
        if missing:
            raise UnknownEraser(f"no eraser called {missing[0]!r} is in force")
        return frozenset({eraser.name for eraser in visible if eraser.default} | set(wanted))


def read_set(connection: Connection, version: int) -> EraserSet:
    """The active set according to the entries."""
    table = tables.entries.c
    columns = (table.id, table.name, table.tenant, table.is_default, table.artifact_digest, table.fingerprint)
    rows = connection.execute(select(*columns).where(table.state == "active")).all()
    # sorted here, because databases sort text by different rules
    return EraserSet(version, tuple(sorted((ActiveEraser(*row) for row in rows), key=lambda e: e.name)))
