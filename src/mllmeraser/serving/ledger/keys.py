"""Keys of clients and operators: shown once, stored as argon2id hashes."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Connection, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.change import Change
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.errors import TransitionError, UnknownEntryError
from mllmeraser.serving.ledger.states import Scope, check_scope, check_tenant, check_text, stamp, stamp_or_none, time_of

SECRET = re.compile(r"mk_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
CACHE_SECONDS = 60.0
CACHE_SIZE = 4096
AT_ONCE = 2  # hashes computed at the same time: each takes 64 MiB


@dataclass(frozen=True)
class Principal:
    """Who a request comes from."""

    key_id: str
    label: str
    scope: Scope
    tenant: str | None


@dataclass(frozen=True)
class KeyRecord:
    """What is known of a key; not the key."""

    id: str
    label: str
    scope: Scope
    tenant: str | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """As plain data, times as text."""
        return {**asdict(self), "created_at": stamp(self.created_at), "revoked_at": stamp_or_none(self.revoked_at)}


class KeyRing:
    """Checks keys. A key that was checked is believed for a minute, so that the slow hash is not paid each time."""

    def __init__(
        self,
        database: Database,
        hasher: PasswordHasher | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check keys against `database`; tests give a lighter `hasher` and a clock of their own."""
        self._database = database
        self._hasher = hasher or PasswordHasher()
        self._monotonic = monotonic
        self._salt = secrets.token_bytes(32)
        self._cache: dict[bytes, tuple[Principal, float]] = {}
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._revocations = 0
        self._nobody: str | None = None

    def add(self, change: Change, *, label: str, scope: Scope, tenant: str | None) -> tuple[KeyRecord, str]:
        """A new key: its record, and the secret, which is not kept.

        Raises:
            InputError: If label, scope or tenant cannot be.
        """
        label, scope, tenant = check_text("the label", label, 120), check_scope(scope), check_tenant(tenant)
        if (scope == "admin" and tenant is not None) or (scope == "tenant-admin" and tenant is None):
            raise InputError("a tenant-admin has one tenant, an admin has none")
        id = secrets.token_hex(4)
        while _row(change.connection, id) is not None:
            id = secrets.token_hex(4)
        secret = f"mk_{id}_{secrets.token_urlsafe(32)}"
        row = {
            "id": id,
            "label": label,
            "scope": scope,
            "tenant": tenant,
            "hash": self._hasher.hash(_bound(secret, scope, tenant)),
            "created_at": stamp(change.now),
            "created_by": change.by,
            "revoked_at": None,
        }
        details = {"label": label, "scope": scope, "tenant": tenant}
        change.write(tables.keys, row, "key-added", details)
        return _record(row), secret

    def revoke(self, change: Change, id: str) -> KeyRecord:
        """Stop a key for good.

        Raises:
            UnknownEntryError: If there is no such key.
            TransitionError: If it is revoked already.
        """
        row = _row(change.connection, id)
        if row is None:
            raise UnknownEntryError(f"there is no key {str(id)[:20]!r}")
        if row["revoked_at"] is not None:
            raise TransitionError(f"the key {id} is revoked already")
        row["revoked_at"] = stamp(change.now)
        change.write(tables.keys, row, "key-revoked", {"label": row["label"]})
        return _record(row)

    def forget(self) -> None:
        """Believe no key without looking: after a revocation."""
        with self._lock:
            self._revocations += 1
            self._cache.clear()

    def authenticate(self, secret: str) -> Principal | None:
        """Whose secret this is, or None. An unknown key takes as long as a wrong one.

        Raises:
            LedgerError: If the database cannot be read and the secret was not checked within the last minute.
        """
        match = SECRET.fullmatch(secret) if isinstance(secret, str) else None
        if match is None:
            return None
        known = self._digest(secret)
        believed = self._believed(known)
        if believed is not None:
            return believed
        with self._slots:
            # Of many requests with one key at once the first has it checked; the others waited for a slot meanwhile.
            believed = self._believed(known)
            return believed if believed is not None else self._check(known, match[1], secret)

    def _believed(self, known: bytes) -> Principal | None:
        """Whose secret it is, where it was checked within the last minute."""
        with self._lock:
            principal, until = self._cache.get(known, (None, 0.0))
        return principal if self._monotonic() < until else None

    def _check(self, known: bytes, id: str, secret: str) -> Principal | None:
        with self._lock:
            seen = self._revocations
        started = self._monotonic()
        principal = self._look_up(id, secret)
        if principal is None:
            with self._lock:
                self._cache.pop(known, None)
        else:
            self._believe(known, principal, started + CACHE_SECONDS, seen)
        return principal

    def recognises(self, secret: str) -> bool:
        """Whether this secret passed here before, and since then neither failed nor any key was revoked.

        It may be worthless by now, which `authenticate` tells; here nothing is read and nothing hashed.
        """
        with self._lock:
            return self._digest(secret) in self._cache

    def claimed(self, secret: str) -> str | None:
        """Id of the key in force that a secret says it is of, rightly or wrongly; None where there is none.

        Raises:
            LedgerError: If the database cannot be read.
        """
        match = SECRET.fullmatch(secret)
        if match is None:
            return None
        with self._database.reading() as connection:
            row = _row(connection, match[1])
        return None if row is None or row["revoked_at"] is not None else match[1]

    def _digest(self, secret: str) -> bytes:
        return hashlib.sha256(self._salt + secret.encode()).digest()

    def _look_up(self, id: str, secret: str) -> Principal | None:
        with self._database.reading() as connection:
            row = _row(connection, id)
        if row is None or row["revoked_at"] is not None:
            self._matches(self._stranger(), secret)
            return None
        if not self._matches(row["hash"], _bound(secret, row["scope"], row["tenant"])):
            return None
        return Principal(id, row["label"], check_scope(row["scope"]), row["tenant"])

    def _matches(self, hash: str, text: str) -> bool:
        try:
            return self._hasher.verify(hash, text)
        except (Argon2Error, InvalidHashError):
            return False

    def _stranger(self) -> str:
        """A hash of nobody's secret."""
        if self._nobody is None:
            self._nobody = self._hasher.hash(secrets.token_hex(32))
        return self._nobody

    def _believe(self, known: bytes, principal: Principal, until: float, seen: int) -> None:
        with self._lock:
            if seen != self._revocations:
                return  # something was revoked while this one was checked
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[known] = (principal, until)


def list_keys(connection: Connection) -> list[KeyRecord]:
    """Every key, revoked ones too, oldest first."""
    query = select(tables.keys).order_by(tables.keys.c.created_at, tables.keys.c.id)
    return [_record(row) for row in tables.rows(connection, query)]


def _bound(secret: str, scope: str, tenant: str | None) -> str:
    """What is hashed: a row whose scope or tenant is changed behind the ledger's back no longer fits its key."""
    return f"{secret} {scope} {tenant or ''}"


def _row(connection: Connection, id: str) -> dict[str, Any] | None:
    if not isinstance(id, str) or not re.fullmatch(r"[0-9a-f]{8}", id):
        return None
    return tables.one(connection, select(tables.keys).where(tables.keys.c.id == id))


def _record(row: dict[str, Any]) -> KeyRecord:
    """The record of a row."""
    times = {"created_at": time_of(row["created_at"]), "revoked_at": time_of(row["revoked_at"])}
    return KeyRecord(**{**{key: value for key, value in row.items() if key != "hash"}, **times})
