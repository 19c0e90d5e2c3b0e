"""The ledger: every erasure, what is in force, who changed what, and who may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy.dialects import postgresql, sqlite

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import lifecycle, tables
from mllmeraser.serving.ledger.chain import Event
from mllmeraser.serving.ledger.change import Change
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.entries import Entry
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.keys import KeyRecord, KeyRing, Principal
from mllmeraser.serving.ledger.migrating import check_revision
from mllmeraser.serving.ledger.migrating import migrate as bring_up_to_date
from mllmeraser.serving.ledger.reading import LAST_SEQ, LedgerReader
from mllmeraser.serving.ledger.states import ACTION, Clock, Scope, check_text, stamp, utc_now

# What the ledger itself records: nobody else may say that it happened.
OWN_ACTIONS = frozenset(
    {
        *("requested", "failed", "fitted", "verified", "activated", "activation-scheduled", "suspended", "revoked"),
        *("begun-again", "scheduled", "key-added", "key-revoked"),
    }
)


class Ledger(LedgerReader):
    """A ledger in SQLite or PostgreSQL. Threads may share it, and any number of processes one database.

    Every change is one transaction: the row, an event bound to the event before it, and a new version where what is
    in force changes. `by` says who makes the change. Every method raises a `LedgerError` where the database is out of
    reach or full, and an `InputError` for what cannot be recorded; then nothing was changed.
    """

    def __init__(self, database: Database, clock: Clock = utc_now, hasher: PasswordHasher | None = None) -> None:
        """Use `database` as it is; `open` is the way in."""
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
            migrate: Bring an older or empty database up to date; without it such a database is refused.
            create: Make a file of SQLite that is not there.
            timeout_s: How long to wait for other writers.
            clock: The time in UTC.
            hasher: Of keys.

        Raises:
            InputError: If the address cannot be used.
            LedgerError: If the database cannot be reached, is of a newer package, or is to be used as it is and cannot.
        """
        database = Database(url, timeout_s=timeout_s, create=create)
        try:
            if not check_revision(database):
                if not migrate:
                    raise LedgerError(f"{database.shown}: no ledger, or of an older mllmeraser: open it with migrate")
                bring_up_to_date(database)
        except BaseException:
            database.close()
            raise
        return cls(database, clock, hasher)

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _changing(self, by: str) -> Iterator[Change]:
        """A change, stored as a whole when the block ends, and not at all if it raises."""
        with self._database.writing() as connection:
            yield Change(connection, self._clock(), by)

    # -- the life of an erasure ------------------------------------------------------------------------

    def request(
        self,
        name: str,
        *,
        by: str,
        tenant: str | None = None,
        default: bool = True,
        starts_at: datetime | None = None,
        expires_at: datetime | None = None,
        digests: Mapping[str, str] = {},
        inputs: bytes | None = None,
    ) -> Entry:
        """A new erasure.

        Args:
            digests: Salted digests and counts of the request, no personal data. Those under keys that begin with
                `subject` or `forget` are compared by `conflicts`, if they were made with this ledger's `salt`.
            inputs: The packed request, personal data: kept only until the entry is verified, forced into
                force, or revoked.

        Raises:
            NameTakenError: If another entry, not revoked, has the name.
        """
        with self._changing(by) as change:
            return lifecycle.request(
                change,
                name,
                tenant=tenant,
                default=default,
                starts_at=starts_at,
                expires_at=expires_at,
                digests=digests,
                inputs=inputs,
            )

    def add(
        self,
        name: str,
        *,
        by: str,
        artifact: Mapping[str, bytes],
        fingerprint: str,
        digest: str,
        tenant: str | None = None,
        default: bool = True,
        digests: Mapping[str, str] = {},
    ) -> Entry:
        """An eraser that was made elsewhere: requested and fitted in one change."""
        with self._changing(by) as change:
            entry = lifecycle.request(
                change,
                name,
                tenant=tenant,
                default=default,
                starts_at=None,
                expires_at=None,
                digests=digests,
                inputs=None,
            )
            return lifecycle.fitted(change, entry.id, artifact=artifact, fingerprint=fingerprint, digest=digest)

    def failed(self, id: str, *, by: str, reason: str) -> Entry:
        """Fitting or verifying failed; `reason` is one line without personal data. The inputs stay for another try."""
        with self._changing(by) as change:
            return lifecycle.failed(change, id, reason=reason)

    def begun_again(self, id: str, *, by: str) -> Entry:
        """What failed is tried once more: its failure counts no longer."""
        with self._changing(by) as change:
            return lifecycle.begun_again(change, id)

    def fitted(self, id: str, *, by: str, artifact: Mapping[str, bytes], fingerprint: str, digest: str) -> Entry:
        """The eraser is fitted: its files are stored. The inputs stay until it is verified.

        Args:
            artifact: The two files of the eraser by name.
            fingerprint: Of the model.
            digest: SHA-256 of the file with the tensors, `Eraser.digest()`.
        """
        with self._changing(by) as change:
            return lifecycle.fitted(change, id, artifact=artifact, fingerprint=fingerprint, digest=digest)

    def verified(self, id: str, *, by: str, scores: Mapping[str, Any], passed: bool) -> Entry:
        """What verification measured, and whether it was passed; the inputs are erased."""
        with self._changing(by) as change:
            entry = lifecycle.verified(change, id, scores=scores, passed=passed)
        self._database.shrink()
        return entry

    def activate(self, id: str, *, by: str, force: str | None = None) -> Entry:
        """Bring an entry into force, or, where its start lies ahead, leave it to `tick` to do so then.

        Args:
            force: The reason to take one that did not pass, or was not verified; recorded.

        Raises:
            TransitionError: If its state does not allow it, it did not pass, or its schedule is over.
        """
        with self._changing(by) as change:
            entry = lifecycle.activate(change, id, force=force)
        self._database.shrink()
        return entry

    def suspend(self, id: str, *, by: str, reason: str) -> Entry:
        """Take an entry out of force until it is activated again."""
        with self._changing(by) as change:
            return lifecycle.suspend(change, id, reason=reason)

    def revoke(self, id: str, *, by: str, reason: str) -> Entry:
        """Take an entry out for good, from any state; its inputs are erased, its name is free."""
        with self._changing(by) as change:
            entry = lifecycle.revoke(change, id, reason=reason)
        self._database.shrink()
        return entry

    def schedule(
        self, id: str, *, by: str, starts_at: datetime | None = None, expires_at: datetime | None = None
    ) -> Entry:
        """Set both ends of an entry's schedule; None is none."""
        with self._changing(by) as change:
            return lifecycle.schedule(change, id, starts_at=starts_at, expires_at=expires_at)

    def tick(self, now: datetime | None = None, *, by: str = "schedule") -> list[Entry]:
        """Do what is due at `now`; gives the entries it changed. Any number of servers may do so at once."""
        now = now or self._clock()
        with self._reading() as connection:
            if not lifecycle.due(connection, now):
                return []
        with self._changing(by) as change:
            return lifecycle.tick(change, now)

    # -- around it -------------------------------------------------------------------------------------

    def audit(self, action: str, *, by: str, details: Mapping[str, Any]) -> Event:
        """Record something that changes no state: a certificate issued, a server started. No personal data."""
        if not isinstance(action, str) or not ACTION.fullmatch(action) or action in OWN_ACTIONS:
            raise InputError(f"{action!r} cannot be recorded as an action: lower-case words, none of the ledger's own")
        with self._changing(by) as change:
            return change.record(action, details)

    def heartbeat(self, server: str, version: int, *, ready: bool) -> None:
        """Say that a server is there, which version it has in force, and whether it answers; not an event."""
        row = {"version": min(version, LAST_SEQ), "ready": bool(ready), "seen_at": stamp(self._clock())}
        name = check_text("the server's name", server, 128)
        insert: Any = postgresql.insert if self._database.postgresql else sqlite.insert
        statement = insert(tables.servers).values(server=name, **row)
        with self._database.writing() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["server"], set_=row))

    # -- keys ------------------------------------------------------------------------------------------

    def add_key(self, *, label: str, scope: Scope, tenant: str | None, by: str) -> tuple[KeyRecord, str]:
        """A new key: its record, and the secret `mk_...`, which is shown this once."""
        with self._changing(by) as change:
            return self._ring.add(change, label=label, scope=scope, tenant=tenant)

    def authenticate(self, secret: str) -> Principal | None:
        """Whose secret this is, or None."""
        return self._ring.authenticate(secret)

    def recognises(self, secret: str) -> bool:
        """Whether this secret passed here before, and since then neither failed nor any key was revoked; cheap."""
        return self._ring.recognises(secret)

    def claimed_key(self, secret: str) -> str | None:
        """Id of the key in force that a secret says it is of, rightly or wrongly; nothing is hashed."""
        return self._ring.claimed(secret)

    def revoke_key(self, id: str, *, by: str) -> KeyRecord:
        """Stop a key: at once here, within a minute on other servers."""
        with self._changing(by) as change:
            record = self._ring.revoke(change, id)
        self._ring.forget()
        return record
