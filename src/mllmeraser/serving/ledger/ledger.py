"""The ledger: all erasures, the active set, all changes with their authors, and the keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import whole_file
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import Event, read_head
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.errors import LedgerError, NoLedgerError
from mllmeraser.serving.ledger.keys import KeyRecord, KeyRing, Principal
from mllmeraser.serving.ledger.lifecycle import EntryWriter
from mllmeraser.serving.ledger.migrating import check_revision, holds_ledger
from mllmeraser.serving.ledger.migrating import migrate as bring_up_to_date
from mllmeraser.serving.ledger.reading import LAST_SEQ
from mllmeraser.serving.ledger.states import ACTION, Clock, Scope, check_text, stamp, utc_now

# Actions that only the ledger itself may record.
OWN_ACTIONS = frozenset(
    {
        *("requested", "failed", "fitted", "verified", "activated", "activation-scheduled", "suspended", "revoked"),
        *("checks-failed", "noted", "begun-again", "scheduled", "key-added", "key-revoked"),
    }
)


class Ledger(EntryWriter):
    """A ledger in SQLite or PostgreSQL. Threads may share it, and processes may share the database.

    The errors and transactions of `LedgerReader` and `EntryWriter` hold for all methods.
    """

    def __init__(self, database: Database, clock: Clock = utc_now, hasher: PasswordHasher | None = None) -> None:
        super().__init__(database, clock)
        self._ring = KeyRing(database, hasher)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        migrate: bool = True,
        create: bool = True,
        timeout_s: float = 30.0,
        clock: Clock = utc_now,
        hasher: PasswordHasher | None = None,
    ) -> Ledger:
        """Open the ledger at `url`.

        Args:
            url: `sqlite:///FILE`, a plain path, or `postgresql://...`.
            migrate: Bring an older or empty database up to date. If False, refuse such a database.
            create: Create a ledger where there is none: a missing SQLite file, or an empty database.
            timeout_s: How long to wait for other writers.
            clock: Returns the time in UTC.

        Raises:
            InputError: If the address cannot be used.
            LedgerError: If the database cannot be reached, comes from a newer package, or needs a migration.
        """
        database = Database(url, timeout_s=timeout_s, create=create)
        try:
            if not create and not holds_ledger(database):
                raise NoLedgerError(f"{database.shown}: there is no ledger; mllmeraser serve --init makes one")
            if not check_revision(database):
                if not migrate:
                    raise LedgerError(f"{database.shown}: no ledger, or of an older mllmeraser: open it with migrate")
                bring_up_to_date(database)
        except BaseException:
            database.close()
            raise
        return cls(database, clock, hasher)

    @property
    def shown(self) -> str:
        """The address without the password."""
        return self._database.shown

    def backup(self, out: Path) -> None:
        """Copy an SQLite ledger to a new file while servers go on. PostgreSQL has `pg_dump`.

        Raises:
            InputError: The ledger is not SQLite, or the file exists.
        """
        if self._database.postgresql:
            raise InputError("a ledger in PostgreSQL is backed up by pg_dump, and restored by pg_restore")
        with whole_file(out) as beside, self._database.reading() as connection:
            source = connection.connection.driver_connection
            with closing(sqlite3.connect(beside)) as copy:
                source.backup(copy)  # type: ignore[union-attr]

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def audit(self, action: str, *, by: str, details: Mapping[str, Any]) -> Event:
        """Record an action that changes no state, such as an issued certificate. No personal data."""
        if not isinstance(action, str) or not ACTION.fullmatch(action) or action in OWN_ACTIONS:
            raise InputError(f"{action!r} cannot be recorded as an action: lower-case words, none of the ledger's own")
        with self._changing(by) as change:
            return change.record(action, details)

    def heartbeat(self, server: str, version: int, *, ready: bool) -> None:
        """Store that a server runs, its version of the active set, and whether it answers. This is not an event."""
        row = {"version": min(version, LAST_SEQ), "ready": bool(ready), "seen_at": stamp(self._clock())}
        name = check_text("the server's name", server, 128)
        insert: Any = postgresql.insert if self._database.postgresql else sqlite.insert
        statement = insert(tables.servers).values(server=name, **row)
        with self._database.writing() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["server"], set_=row))

    def lease(self, id: str, server: str, seconds: float) -> bool:
        """Take or renew the lease of an entry for some time; False if another server has it. This is not an event."""
        now = self._clock()
        row = {"server": server, "until": stamp(now + timedelta(seconds=seconds))}
        insert: Any = postgresql.insert if self._database.postgresql else sqlite.insert
        table = tables.leases.c
        statement = insert(tables.leases).values(entry=id, **row).on_conflict_do_update(
            index_elements=["entry"], set_=row, where=(table.server == server) | (table.until <= stamp(now))
        )  # fmt: skip
        with self._database.writing() as connection:
            return connection.execute(statement.returning(table.entry)).first() is not None

    def release(self, id: str, server: str) -> None:
        """End the lease of an entry, if this server has it."""
        table = tables.leases.c
        with self._database.writing() as connection:
            connection.execute(delete(tables.leases).where(table.entry == id, table.server == server))

    def claim_messages(self, target: str, server: str, seconds: float) -> int | None:
        """Become the sender of webhooks to `target` for some time, and return the last event that it knows of.

        None if another server is the sender. A new target knows of all events so far. This is not an event.
        """
        now, table = self._clock(), tables.webhooks.c
        row = {"server": check_text("the server's name", server, 128), "until": stamp(now + timedelta(seconds=seconds))}
        insert: Any = postgresql.insert if self._database.postgresql else sqlite.insert
        with self._database.writing() as connection:
            statement = insert(tables.webhooks).values(target=target, seq=read_head(connection).seq, **row)
            statement = statement.on_conflict_do_update(
                index_elements=["target"], set_=row, where=(table.server == server) | (table.until <= stamp(now))
            )
            return connection.scalar(statement.returning(table.seq))

    def sent_messages(self, target: str, server: str, seq: int) -> bool:
        """Record that a target knows of all events up to `seq`; False if this server is not the sender any more."""
        table = tables.webhooks.c
        change = update(tables.webhooks).where(table.target == target, table.server == server, table.seq <= seq)
        with self._database.writing() as connection:
            return connection.execute(change.values(seq=seq).returning(table.seq)).first() is not None

    def add_key(self, *, label: str, scope: Scope, tenant: str | None, by: str) -> tuple[KeyRecord, str]:
        """Create a key. Returns its record and the secret `mk_...`, which is not stored."""
        with self._changing(by) as change:
            return self._ring.add(change, label=label, scope=scope, tenant=tenant)

    def first_admin(self, *, label: str, by: str) -> str | None:
        """Create an admin's key if there is none, and return its secret. Of servers that start together, one does."""
        with self._changing(by) as change:
            if any(record.scope == "admin" and record.revoked_at is None for record in self._ring.all(change)):
                return None
            return self._ring.add(change, label=label, scope="admin", tenant=None)[1]

    def authenticate(self, secret: str) -> Principal | None:
        """The owner of a secret, or None."""
        return self._ring.authenticate(secret)

    def recognises(self, secret: str) -> bool:
        """Whether this secret passed before, has not failed since, and no key was revoked since. Cheap."""
        return self._ring.recognises(secret)

    def claimed_key(self, secret: str) -> str | None:
        """Id of the valid key that a secret claims to belong to, unchecked."""
        return self._ring.claimed(secret)

    def revoke_key(self, id: str, *, by: str) -> KeyRecord:
        """Revoke a key: at once on this server, within a minute on others."""
        with self._changing(by) as change:
            record = self._ring.revoke(change, id)
        self._ring.forget()
        return record
