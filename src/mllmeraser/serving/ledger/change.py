"""One open write transaction: what it changes, it also records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import Event, append, canonical, read_head
from mllmeraser.serving.ledger.entries import Entry, find, row_digest, row_of
from mllmeraser.serving.ledger.errors import NameTakenError
from mllmeraser.serving.ledger.sets import read_set
from mllmeraser.serving.ledger.states import check_text, stamp


class Change:
    """A change by somebody at some time. Every row it writes comes with an event, in the same transaction.

    Attributes:
        connection: The transaction; other writers wait from here on.
        now: The time of the change.
        by: Who makes it.
    """

    def __init__(self, connection: Connection, now: datetime, by: str) -> None:
        """Take the lock of the head."""
        self.by = check_text("by (who does this)", by, 200)
        self.connection = connection
        self.now = now
        self._head = read_head(connection, lock=True)

    def find(self, id_or_name: str) -> Entry:
        """The entry of this id or name."""
        return find(self.connection, id_or_name)

    def create(self, entry: Entry, action: str, **details: Any) -> Entry:
        """Write a new entry.

        Raises:
            NameTakenError: If another one, not revoked, has its name.
        """
        table = tables.entries.c
        taken = select(table.id).where(table.name == entry.name, table.state != "revoked")
        if self.connection.execute(taken).first() is not None:
            raise NameTakenError(f"another erasure is called {entry.name}: choose another name, or revoke it first")
        row = {**row_of(entry), "seq": self._head.seq + 1}
        self.connection.execute(insert(tables.entries).values(**row))
        self.record(action, details, about=entry.id, row=row)
        return self.find(entry.id)

    def save(self, entry: Entry, action: str, **details: Any) -> Entry:
        """Write an entry that has changed."""
        row = row_of(entry)
        self.connection.execute(update(tables.entries).where(tables.entries.c.id == entry.id).values(**row))
        self.record(action, {"state": entry.state, **details}, about=entry.id, row=row)
        return entry

    def write(self, table: Table, row: Mapping[str, Any], action: str, details: Mapping[str, Any]) -> None:
        """Write a row of another table with an `id`: insert it, or replace the one of the same id."""
        where = table.c.id == row["id"]
        if self.connection.execute(select(table.c.id).where(where)).first() is None:
            self.connection.execute(insert(table).values(**row))
        else:
            self.connection.execute(update(table).where(where).values(**row))
        self.record(action, details, about=row["id"], row=row)

    def record(
        self,
        action: str,
        details: Mapping[str, Any],
        *,
        about: str | None = None,
        row: Mapping[str, Any] | None = None,
    ) -> Event:
        """Append an event. The version grows if, and only if, what is in force is no longer what it was."""
        in_force = read_set(self.connection, 0).digest
        event, self._head = append(
            self.connection,
            self._head,
            {
                "at": stamp(self.now),
                "actor": self.by,
                "action": action,
                "about": about,
                "details": canonical(dict(details)),
                "version": self._head.version + int(in_force != self._head.in_force),
                "in_force": in_force,
                "row_digest": None if row is None else row_digest(row),
            },
        )
        return event
