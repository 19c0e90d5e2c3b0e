"""What is in force: a version, and the erasers of all entries in state active."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import digest_of
from mllmeraser.serving.ledger.errors import UnknownEraser


@dataclass(frozen=True)
class ActiveEraser:
    """One eraser in force."""

    id: str
    name: str
    tenant: str | None
    default: bool
    artifact_digest: str
    fingerprint: str


@dataclass(frozen=True)
class EraserSet:
    """Everything in force at one moment.

    Attributes:
        version: Grows by one with every change of what is in force.
        erasers: Sorted by name.
    """

    version: int
    erasers: tuple[ActiveEraser, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over name, tenant, default and artifact of every eraser: two servers can be compared by it."""
        return digest_of([[e.name, e.tenant, e.default, e.artifact_digest] for e in self.erasers])

    def chosen(self, tenant: str | None, wanted: Collection[str] = ()) -> frozenset[str]:
        """Names in force for a request: the default ones of everybody and of its tenant, and those it wants.

        Raises:
            UnknownEraser: If a wanted one is not in force, or is another tenant's; the message does not tell which.
        """
        reach = [eraser for eraser in self.erasers if eraser.tenant in (None, tenant)]
        missing = sorted(set(wanted) - {eraser.name for eraser in reach})
        if missing:
            raise UnknownEraser(f"no eraser called {missing[0]!r} is in force")
        return frozenset({eraser.name for eraser in reach if eraser.default} | set(wanted))


def read_set(connection: Connection, version: int) -> EraserSet:
    """The set in force as the entries have it."""
    table = tables.entries.c
    columns = (table.id, table.name, table.tenant, table.is_default, table.artifact_digest, table.fingerprint)
    rows = connection.execute(select(*columns).where(table.state == "active")).all()
    # sorted here: databases sort text by rules of their own
    return EraserSet(version, tuple(sorted((ActiveEraser(*row) for row in rows), key=lambda e: e.name)))
