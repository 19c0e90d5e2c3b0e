"""The half of a ledger that reads."""

from __future__ import annotations

import builtins
import hmac
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import artifacts, notes, tables
from mllmeraser.serving.ledger.chain import Event, event_of, read_head
from mllmeraser.serving.ledger.check import ChainReport, check
from mllmeraser.serving.ledger.conflicts import conflicts_among
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.entries import Entry, EraserSet, entry_of, find, in_state, matches, read_set, state_of
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.keys import KeyRecord, list_keys
from mllmeraser.serving.ledger.notes import Note
from mllmeraser.serving.ledger.states import STATES, Clock, State, check_state, check_tenant, stamp

MOST_EVENTS = 10_000
LAST_SEQ = 2**31 - 1


@dataclass(frozen=True)
class ServerRow:
    """A server, the version of the active set that it uses, and whether it answers."""

    server: str
    version: int
    ready: bool
    seen_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """Plain data, times as text."""
        return {**asdict(self), "seen_at": stamp(self.seen_at)}


class LedgerReader:
    """The methods of a ledger that change nothing. Each reads one consistent state of the database.

    Every method raises a `LedgerError` if the database cannot be read.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @property
    def url(self) -> str:
        """Address of the database, without the password."""
        return self._database.shown

    @property
    def salt(self) -> str:
        """The salt of this ledger for digests of requests. Only digests of one ledger can be compared."""
        with self._database.reading() as connection:
            return read_head(connection).salt

    def get(self, id_or_name: str) -> Entry:
        """The entry with this id, or the entry with this name that is not revoked.

        Raises:
            UnknownEntryError: If there is none.
        """
        with self._database.reading() as connection:
            return find(connection, id_or_name)

    def list(
        self, *, state: State | None = None, tenant: str | None = None, search: str | None = None
    ) -> builtins.list[Entry]:
        """Entries in the order of their requests, optionally of one state or one tenant.

        `search` is a part of the name or the begin of the id, in any case.
        """
        query = select(tables.entries).order_by(tables.entries.c.seq)
        if state is not None:
            query = query.where(in_state(check_state(state)))
        if tenant is not None:
            query = query.where(tables.entries.c.tenant == check_tenant(tenant))
        if search is not None:
            query = query.where(matches(search))
        with self._database.reading() as connection:
            return [entry_of(row) for row in tables.rows(connection, query)]

    def notes(self, id: str) -> builtins.list[Note]:
        """The notes on an entry, oldest first."""
        with self._database.reading() as connection:
            return notes.of(connection, find(connection, id))

    def counts(self) -> dict[State, int]:
        """How many entries there are in each state. Cheap."""
        table = tables.entries.c
        query = select(table.state, table.passed, func.count()).group_by(table.state, table.passed)
        counts: dict[State, int] = dict.fromkeys(STATES, 0)
        with self._database.reading() as connection:
            for state, passed, count in connection.execute(query):
                counts[state_of(state, passed)] += count
        return counts

    def inputs(self, id: str) -> bytes | None:
        """The packed request of an entry; None once it is erased."""
        with self._database.reading() as connection:
            entry = find(connection, id)
            data = connection.scalar(select(tables.inputs.c.data).where(tables.inputs.c.entry == entry.id))
            return None if data is None else bytes(data)

    def has_inputs(self, id: str) -> bool:
        """Whether the packed request of an entry is still stored. Cheap."""
        with self._database.reading() as connection:
            entry = find(connection, id)
            stored = select(tables.inputs.c.entry).where(tables.inputs.c.entry == entry.id)
            return connection.execute(stored).first() is not None

    def artifact(self, digest: str) -> dict[str, bytes]:
        """The files of an eraser, by name.

        Raises:
            LedgerError: If no artifact has this digest, or a stored file was damaged.
        """
        with self._database.reading() as connection:
            return artifacts.load(connection, digest)

    def checksums(self, digest: str) -> dict[str, str]:
        """SHA-256 of each file of an eraser at the time it was stored, by name. Cheap."""
        with self._database.reading() as connection:
            return artifacts.stored_checksums(connection, digest)

    def active_set(self) -> EraserSet:
        """The version and all erasers in force.

        Raises:
            LedgerError: If the entries differ from the active set of the last event.
        """
        with self._database.reading() as connection:
            head = read_head(connection)
            active = read_set(connection, head.version)
        if not hmac.compare_digest(active.digest, head.in_force):
            raise LedgerError(
                "the active entries differ from the record: the ledger was tampered with; run 'ledger verify'"
            )
        return active

    def version(self) -> int:
        """Version of the active set. Cheap."""
        return self.standing()[0]

    def standing(self) -> tuple[int, str]:
        """Version and digest of the active set. After a restored backup a version may come twice. Cheap."""
        with self._database.reading() as connection:
            head = read_head(connection)
        return head.version, head.in_force

    def conflicts(self, id: str) -> builtins.list[str]:
        """Warnings for admins before this entry becomes active, from a comparison with all entries."""
        query = select(tables.entries).where(tables.entries.c.state != "revoked").order_by(tables.entries.c.seq)
        with self._database.reading() as connection:
            entry, rows = find(connection, id), tables.rows(connection, query)
        return conflicts_among(entry, [entry_of(row) for row in rows], self._clock())

    def history(self, id: str) -> builtins.list[Event]:
        """All events about an entry."""
        with self._database.reading() as connection:
            about = find(connection, id).id
            query = select(tables.events).where(tables.events.c.about == about).order_by(tables.events.c.seq)
            return _events(connection, query)

    def events(self, after: int = 0, limit: int = 1000) -> builtins.list[Event]:
        """At most `limit` events that follow event `after`."""
        if limit < 1 or after < 0:
            raise InputError("`after` has to be at least 0, and `limit` at least 1")
        seq = tables.events.c.seq
        query = select(tables.events).where(seq > min(after, LAST_SEQ)).order_by(seq).limit(min(limit, MOST_EVENTS))
        with self._database.reading() as connection:
            return _events(connection, query)

    def head(self) -> tuple[int, str]:
        """Position and hash of the last event. Save it elsewhere to detect a cut-off record (`verify_chain`)."""
        with self._database.reading() as connection:
            head = read_head(connection)
            return head.seq, head.hash

    def verify_chain(self, *, kept: tuple[int, str] | None = None) -> ChainReport:
        """Read everything again and check it, also against the head `kept` elsewhere, if there is one.

        Anyone with write access can rewrite the whole database with matching hashes. Only a kept head shows that.
        """
        with self._database.reading() as connection:
            return check(connection, kept)

    def keys(self) -> builtins.list[KeyRecord]:
        """Every key, including revoked ones, oldest first."""
        with self._database.reading() as connection:
            return list_keys(connection)

    def servers(self, *, within: timedelta = timedelta(days=1)) -> builtins.list[ServerRow]:
        """The servers that reported `within` this time, by name."""
        since = stamp(self._clock() - within)
        query = select(tables.servers).where(tables.servers.c.seen_at >= since).order_by(tables.servers.c.server)
        with self._database.reading() as connection:
            rows = tables.rows(connection, query)
        return [ServerRow(**{**row, "seen_at": datetime.fromisoformat(row["seen_at"])}) for row in rows]


def _events(connection: Connection, query: Any) -> list[Event]:
    return [event_of(row) for row in tables.rows(connection, query)]
