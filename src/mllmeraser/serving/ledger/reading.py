"""What can be asked of a ledger."""

from __future__ import annotations

import builtins
import hmac
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import artifacts, tables
from mllmeraser.serving.ledger.chain import Event, event_of, read_head
from mllmeraser.serving.ledger.check import ChainReport, check
from mllmeraser.serving.ledger.conflicts import conflicts
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.entries import Entry, entry_of, find
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.keys import KeyRecord, list_keys
from mllmeraser.serving.ledger.sets import EraserSet, read_set
from mllmeraser.serving.ledger.states import Clock, State, check_state, check_tenant, stamp

MOST_EVENTS = 10_000
LAST_SEQ = 2**31 - 1


@dataclass(frozen=True)
class ServerRow:
    """A server that was seen of late, the version it has in force, and whether it answers."""

    server: str
    version: int
    ready: bool
    seen_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """As plain data, times as text."""
        return {**asdict(self), "seen_at": stamp(self.seen_at)}


class LedgerReader:
    """The half of a ledger that changes nothing. Every answer is of one moment.

    Every method raises a `LedgerError` where the database cannot be read.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        """Read `database`; ask `clock` for the time."""
        self._database = database
        self._clock = clock

    def _reading(self) -> AbstractContextManager[Connection]:
        return self._database.reading()

    @property
    def url(self) -> str:
        """Where the ledger is, without the password."""
        return self._database.shown

    @property
    def salt(self) -> str:
        """This ledger's own salt for digests of requests: only those of one ledger can be compared."""
        with self._reading() as connection:
            return read_head(connection).salt

    def get(self, id_or_name: str) -> Entry:
        """The entry of this id, or the one of this name that is not revoked.

        Raises:
            UnknownEntryError: If there is none.
        """
        with self._reading() as connection:
            return find(connection, id_or_name)

    def list(self, *, state: State | None = None, tenant: str | None = None) -> builtins.list[Entry]:
        """Entries in the order of their requests: all, those in a state, or those of a tenant."""
        query = select(tables.entries).order_by(tables.entries.c.seq)
        if state is not None:
            query = query.where(tables.entries.c.state == check_state(state))
        if tenant is not None:
            query = query.where(tables.entries.c.tenant == check_tenant(tenant))
        with self._reading() as connection:
            return [entry_of(row) for row in tables.rows(connection, query)]

    def inputs(self, id: str) -> bytes | None:
        """The packed request of an entry, None once it is erased."""
        with self._reading() as connection:
            entry = find(connection, id)
            data = connection.scalar(select(tables.inputs.c.data).where(tables.inputs.c.entry == entry.id))
            return None if data is None else bytes(data)

    def has_inputs(self, id: str) -> bool:
        """Whether the packed request of an entry is still kept; cheap."""
        with self._reading() as connection:
            entry = find(connection, id)
            kept = select(tables.inputs.c.entry).where(tables.inputs.c.entry == entry.id)
            return connection.execute(kept).first() is not None

    def artifact(self, digest: str) -> dict[str, bytes]:
        """The files of an eraser by name.

        Raises:
            LedgerError: If none of this digest is stored, or what is stored is not what was stored.
        """
        with self._reading() as connection:
            return artifacts.load(connection, digest)

    def checksums(self, digest: str) -> dict[str, str]:
        """SHA-256 of each file of an eraser as it was stored, by name; cheap."""
        with self._reading() as connection:
            return artifacts.stored_checksums(connection, digest)

    def active_set(self) -> EraserSet:
        """The version and everything in force at it.

        Raises:
            LedgerError: If the entries are not those that the last recorded change left in force.
        """
        with self._reading() as connection:
            head = read_head(connection)
            found = read_set(connection, head.version)
        if not hmac.compare_digest(found.digest, head.in_force):
            raise LedgerError(
                "what the entries say is in force was never recorded: the ledger was tampered with; run 'ledger verify'"
            )
        return found

    def version(self) -> int:
        """Version of the set in force; cheap."""
        return self.standing()[0]

    def standing(self) -> tuple[int, str]:
        """Version of the set in force and its digest: after a restored backup one version may come twice. Cheap."""
        with self._reading() as connection:
            head = read_head(connection)
        return head.version, head.in_force

    def conflicts(self, id: str) -> builtins.list[str]:
        """What to look at before this entry comes into force, one line each."""
        with self._reading() as connection:
            return conflicts(connection, find(connection, id), self._clock())

    def history(self, id: str) -> builtins.list[Event]:
        """Everything that was done to an entry."""
        with self._reading() as connection:
            about = find(connection, id).id
            query = select(tables.events).where(tables.events.c.about == about).order_by(tables.events.c.seq)
            return _events(connection, query)

    def events(self, after: int = 0, limit: int = 1000) -> builtins.list[Event]:
        """At most `limit` events behind the one at `after`."""
        if limit < 1 or after < 0:
            raise InputError("events are asked for from 0 on, and at least one")
        seq = tables.events.c.seq
        query = select(tables.events).where(seq > min(after, LAST_SEQ)).order_by(seq).limit(min(limit, MOST_EVENTS))
        with self._reading() as connection:
            return _events(connection, query)

    def head(self) -> tuple[int, str]:
        """Place and hash of the last event. Kept elsewhere, it shows a record that was cut off (`verify_chain`)."""
        with self._reading() as connection:
            head = read_head(connection)
            return head.seq, head.hash

    def verify_chain(self, *, kept: tuple[int, str] | None = None) -> ChainReport:
        """Read everything again, and compare it with a head that was `kept` elsewhere, if one was.

        Whoever can write to the database can write all of it anew, with hashes that fit: only a kept head finds that.
        """
        with self._reading() as connection:
            return check(connection, kept)

    def keys(self) -> builtins.list[KeyRecord]:
        """Every key, revoked ones too, oldest first."""
        with self._reading() as connection:
            return list_keys(connection)

    def servers(self, *, within: timedelta = timedelta(days=1)) -> builtins.list[ServerRow]:
        """The servers seen of late, by name."""
        since = stamp(self._clock() - within)
        query = select(tables.servers).where(tables.servers.c.seen_at >= since).order_by(tables.servers.c.server)
        with self._reading() as connection:
            rows = tables.rows(connection, query)
        return [ServerRow(**{**row, "seen_at": datetime.fromisoformat(row["seen_at"])}) for row in rows]


def _events(connection: Connection, query: Any) -> list[Event]:
    return [event_of(row) for row in tables.rows(connection, query)]
