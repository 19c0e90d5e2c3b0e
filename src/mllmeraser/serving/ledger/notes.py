"""Notes on entries. They are added, never changed; the record holds that one was added, not its text."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.change import Change
from mllmeraser.serving.ledger.entries import Entry
from mllmeraser.serving.ledger.states import check_text, stamp

LONGEST = 1000


@dataclass(frozen=True)
class Note:
    """One note: what somebody wrote about an entry, and when (in UTC)."""

    id: str
    at: datetime
    by: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, times as text."""
        return {**asdict(self), "at": stamp(self.at)}


def add(change: Change, entry: Entry, text: str) -> Note:
    """Add a note to an entry.

    Raises:
        InputError: If the text is not one line of at most `LONGEST` characters.
    """
    row = {
        "id": secrets.token_hex(16),
        "entry": entry.id,
        "seq": change.next_seq,
        "at": stamp(change.now),
        "author": change.by,
        "text": check_text("the note", text, LONGEST),
    }
    change.write(tables.notes, row, "noted", {"entry": entry.id})
    return _note(row)


def of(connection: Connection, entry: Entry) -> list[Note]:
    """The notes on an entry, oldest first."""
    query = select(tables.notes).where(tables.notes.c.entry == entry.id).order_by(tables.notes.c.seq)
    return [_note(row) for row in tables.rows(connection, query)]


def _note(row: dict[str, Any]) -> Note:
    return Note(row["id"], datetime.fromisoformat(row["at"]), row["author"], row["text"])
