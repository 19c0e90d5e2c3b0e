"""The record of events. Each event holds the hash of the one before, so any change, removal or move shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.states import stamp

START = "0" * 64  # `previous` of the first event
PAGE = 1000


@dataclass(frozen=True)
class Event:
    """One record: who did what, and when (in UTC).

    Attributes:
        seq: Position, from 1 without a gap. It alone defines the order, because clocks jump.
        about: Id of the changed entry or key, if any.
        details: More about it, without personal data.
        version: Version of the active set after this event.
        in_force: Digest of the active set after this event.
        row_digest: SHA-256 of the row of the entry or key after this event.
        previous: Hash of the event before.
        hash: SHA-256 over the canonical JSON of all other fields.
    """

    seq: int
    at: datetime
    by: str
    action: str
    about: str | None
    details: Mapping[str, Any]
    version: int
    in_force: str
    row_digest: str | None
    previous: str
    hash: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, under the names that are hashed."""
        return {**asdict(self), "at": stamp(self.at)}


@dataclass(frozen=True)
class Head:
    """The end of the record: position and hash of the last event, version and digest of the active set."""

    seq: int
    hash: str
    version: int
    in_force: str
    salt: str


def canonical(value: Any) -> str:
    """The canonical JSON text of a value: sorted keys, no blanks, ASCII only.

    Raises:
        InputError: If JSON cannot express the value (NaN, infinity, an object).
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"this cannot be recorded as JSON: {error}") from None


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The hashed part of a stored event: all fields but `hash`."""
    same = ("seq", "at", "action", "about", "version", "in_force", "row_digest", "previous")
    return {**{key: row[key] for key in same}, "by": row["actor"], "details": json.loads(row["details"])}


def event_of(row: Mapping[str, Any]) -> Event:
    """A stored event."""
    return Event(**{**record_of(row), "at": datetime.fromisoformat(row["at"])}, hash=row["hash"])


def read_head(connection: Connection, *, lock: bool = False) -> Head:
    """The end of the record. `lock` makes other writers wait (on SQLite they always do).

    Raises:
        LedgerError: If the row is missing.
    """
    table = tables.head.c
    query = select(table.seq, table.hash, table.version, table.in_force, table.salt)
    row = tables.one(connection, query.with_for_update() if lock else query)
    if row is None:
        raise LedgerError("the ledger has no head: someone tampered with it, or a backup was only partly restored")
    return Head(**row)


def append(connection: Connection, head: Head, row: Mapping[str, Any]) -> tuple[Event, Head]:
    """Add one event after `head`. `row` holds everything but the position and the hashes."""
    full = {**row, "seq": head.seq + 1, "previous": head.hash}
    full["hash"] = digest_of(record_of(full))
    connection.execute(insert(tables.events).values(**full))
    moved = {key: full[key] for key in ("seq", "hash", "version", "in_force")}
    connection.execute(update(tables.head).values(**moved))
    return event_of(full), replace(head, **moved)


def walk(connection: Connection) -> Iterator[Mapping[str, Any]]:
    """Every stored event in order, read page by page."""
    after: int | None = None
    while True:
        query = select(tables.events).order_by(tables.events.c.seq).limit(PAGE)
        page = tables.rows(connection, query if after is None else query.where(tables.events.c.seq > after))
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["seq"]
