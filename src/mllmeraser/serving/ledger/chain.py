"""The record: events bound to one another by their hashes, so that none can be changed, dropped or moved unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.errors import LedgerError

START = "0" * 64  # `previous` of the first event
PAGE = 1000


@dataclass(frozen=True)
class Event:
    """One record.

    Attributes:
        seq: Its place, from 1 without a gap; it alone is the order, for clocks jump.
        at: When, in UTC.
        by: Who.
        action: What was done.
        about: Id of the entry or key that was changed, if one was.
        details: More about it, without personal data.
        version: Version of the set in force after it.
        in_force: Digest of the set in force after it.
        row_digest: SHA-256 of the row of the entry or key as this event left it.
        previous: Hash of the event before.
        hash: SHA-256 over the canonical JSON of all of this but the hash.
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
        """As plain data, with the words that are hashed."""
        return {**record_of(_row_of(self)), "hash": self.hash}


@dataclass(frozen=True)
class Head:
    """Where the record stands: the last event's place and hash, the version of the set in force and its digest."""

    seq: int
    hash: str
    version: int
    in_force: str
    salt: str


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no blanks, ASCII only.

    Raises:
        InputError: If it has none (NaN, infinity, or something that JSON does not know).
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"this cannot be recorded as JSON: {error}") from None


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is hashed of a stored event: all but the hash."""
    return {
        "seq": row["seq"],
        "at": row["at"],
        "by": row["actor"],
        "action": row["action"],
        "about": row["about"],
        "details": json.loads(row["details"]),
        "version": row["version"],
        "in_force": row["in_force"],
        "row_digest": row["row_digest"],
        "previous": row["previous"],
    }


def event_of(row: Mapping[str, Any]) -> Event:
    """A stored event."""
    record = record_of(row)
    return Event(**{**record, "at": datetime.fromisoformat(record["at"])}, hash=row["hash"])


def _row_of(event: Event) -> dict[str, Any]:
    at = event.at.isoformat(timespec="microseconds")
    return {**event.__dict__, "at": at, "actor": event.by, "details": canonical(event.details)}


def read_head(connection: Connection, *, lock: bool = False) -> Head:
    """Where the record stands; `lock` makes other writers wait (on SQLite they do anyway).

    Raises:
        LedgerError: If the row is missing.
    """
    query = select(tables.head)
    row = tables.one(connection, query.with_for_update() if lock else query)
    if row is None:
        raise LedgerError("the ledger has no head: it was tampered with, or a backup was not restored as a whole")
    return Head(row["seq"], row["hash"], row["version"], row["in_force"], row["salt"])


def append(connection: Connection, head: Head, row: Mapping[str, Any]) -> tuple[Event, Head]:
    """Put one event behind `head`; `row` has everything but its place and its hashes."""
    full = {**row, "seq": head.seq + 1, "previous": head.hash}
    full["hash"] = digest_of(record_of(full))
    connection.execute(insert(tables.events).values(**full))
    after = Head(full["seq"], full["hash"], full["version"], full["in_force"], head.salt)
    connection.execute(
        update(tables.head).values(seq=after.seq, hash=after.hash, version=after.version, in_force=after.in_force)
    )
    return event_of(full), after


def walk(connection: Connection) -> Iterator[Mapping[str, Any]]:
    """Every stored event in order, a page at a time."""
    after: int | None = None
    while True:
        query = select(tables.events).order_by(tables.events.c.seq).limit(PAGE)
        page = tables.rows(connection, query if after is None else query.where(tables.events.c.seq > after))
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["seq"]
