"""One open write transaction. It records an event for every row that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import Event, append, canonical, digest_of, read_head
from mllmeraser.serving.ledger.entries import Entry, find, read_set, row_of
from mllmeraser.serving.ledger.errors import NameTakenError
from mllmeraser.serving.ledger.states import State, check_text, check_transition, stamp


class Change:
    """A change by `by` at the time `now`. Other writers wait until its transaction ends."""

    def __init__(self, connection: Connection, now: datetime, by: str) -> None:
        self.by = check_text("by (who does this)", by, 200)
        self.connection = connection
        self.now = now
        self._head = read_head(connection, lock=True)

    @property
    def next_seq(self) -> int:
        """Position of the next event."""
        return self._head.seq + 1

    def find(self, id_or_name: str, *, to: State | None = None) -> Entry:
        """The entry with this id or name.

        Raises:
            UnknownEntryError: If there is none.
            TransitionError: If the entry cannot change to the state `to`.
        """
        entry = find(self.connection, id_or_name)
        if to is not None:
            check_transition(entry.name, entry.state, to)
        return entry

    def create(self, entry: Entry, action: str, **details: Any) -> Entry:
        """Write a new entry.

        Raises:
            NameTakenError: If an entry that is not revoked has the same name.
        """
        table = tables.entries.c
        taken = select(table.id).where(table.name == entry.name, table.state != "revoked")
        if self.connection.execute(taken).first() is not None:
            raise NameTakenError(f"another erasure is called {entry.name}: choose another name, or revoke it first")
        row = {**row_of(entry), "seq": self.next_seq}
        self.connection.execute(insert(tables.entries).values(**row))
        self.record(action, details, about=entry.id, row=row)
        return self.find(entry.id)

    def save(self, entry: Entry, action: str, **details: Any) -> Entry:
        """Write a changed entry."""
        row = row_of(entry)
        self.connection.execute(update(tables.entries).where(tables.entries.c.id == entry.id).values(**row))
        self.record(action, {"state": entry.state, **details}, about=entry.id, row=row)
        return entry

    def write(self, table: Table, row: Mapping[str, Any], action: str, details: Mapping[str, Any]) -> None:
        """Insert a row into another table, or replace the row with the same `id`."""
        where = table.c.id == row["id"]
        if self.connection.execute(select(table.c.id).where(where)).first() is None:
            self.connection.execute(insert(table).values(**row))
        else:
            self.connection.execute(update(table).where(where).values(**row))
        self.record(action, details, about=row["id"], row=row)

    def record(
        self, action: str, details: Mapping[str, Any], *, about: str | None = None, row: Mapping[str, Any] | None = None
    ) -> Event:
        """Append an event. The version increases only if the active set has changed."""
        in_force = read_set(self.connection, 0).digest
        values = {
            "at": stamp(self.now),
            "actor": self.by,
            "action": action,
            "about": about,
            "details": canonical(dict(details)),
            "version": self._head.version + int(in_force != self._head.in_force),
            "in_force": in_force,
            "row_digest": None if row is None else digest_of(dict(row)),
        }
        event, self._head = append(self.connection, self._head, values)
        return event
