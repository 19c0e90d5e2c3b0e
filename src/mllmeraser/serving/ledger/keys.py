"""Keys of clients and operators. A key is shown once and stored as an argon2id hash."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
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
AT_ONCE = 2  # hashes computed at the same time; each takes 64 MiB


@dataclass(frozen=True)
class Principal:
    """The sender of a request."""

    key_id: str
    label: str
    scope: Scope
    tenant: str | None


@dataclass(frozen=True)
class KeyRecord:
    """The stored facts about a key, without the key."""

    id: str
    label: str
    scope: Scope
    tenant: str | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, times as text."""
        return {**asdict(self), "created_at": stamp(self.created_at), "revoked_at": stamp_or_none(self.revoked_at)}


class KeyRing:
    """Checks keys. A checked key stays valid for a minute, so that the slow hash is not computed each time."""

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self._database = database
        self._hasher = hasher or PasswordHasher()
        self._monotonic = time.monotonic
        self._salt = secrets.token_bytes(32)
        self._cache: dict[bytes, tuple[Principal, float]] = {}
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._revocations = 0

    def add(self, change: Change, *, label: str, scope: Scope, tenant: str | None) -> tuple[KeyRecord, str]:
        """Create a key. Returns its record and the secret, which is not stored.

        Raises:
            InputError: If label, scope or tenant is invalid.
        """
        label, scope, tenant = check_text("the label", label, 120), check_scope(scope), check_tenant(tenant)
        if (scope == "admin" and tenant is not None) or (scope == "tenant-admin" and tenant is None):
            raise InputError("a tenant-admin has one tenant, an admin has none")
        id = secrets.token_hex(4)
        while _row(change.connection, id) is not None:
            id = secrets.token_hex(4)
        secret = f"mk_{id}_{secrets.token_urlsafe(32)}"
        details = {"label": label, "scope": scope, "tenant": tenant}
        row = {
            "id": id,
            **details,
            "hash": self._hasher.hash(_hashed_text(secret, scope, tenant)),
            "created_at": stamp(change.now),
            "created_by": change.by,
            "revoked_at": None,
        }
        change.write(tables.keys, row, "key-added", details)
        return _record(row), secret

    def revoke(self, change: Change, id: str) -> KeyRecord:
        """Revoke a key for good.

        Raises:
            UnknownEntryError: If there is no such key.
            TransitionError: If it is already revoked.
        """
        row = _row(change.connection, id)
        if row is None:
            raise UnknownEntryError(f"there is no key {str(id)[:20]!r}")
        if row["revoked_at"] is not None:
            raise TransitionError(f"the key {id} is revoked already")
        row["revoked_at"] = stamp(change.now)
        change.write(tables.keys, row, "key-revoked", {"label": row["label"]})
        return _record(row)

    def all(self, change: Change) -> list[KeyRecord]:
        """All keys, in the transaction of a change."""
        return [_record(row) for row in tables.rows(change.connection, select(tables.keys))]

    def forget(self) -> None:
        """Clear the cache after a revocation."""
        with self._lock:
            self._revocations += 1
            self._cache.clear()

    def authenticate(self, secret: str) -> Principal | None:
        """The owner of a secret, or None. An unknown key takes as long as a wrong one.

        Raises:
            LedgerError: If the database cannot be read and the secret was not checked within the last minute.
        """
        match = SECRET.fullmatch(secret) if isinstance(secret, str) else None
        if match is None:
            return None
        digest = self._digest(secret)
        if (cached := self._cached(digest)) is not None:
            return cached
        with self._slots:  # another request may check the same key while this one waits for its slot
            return self._cached(digest) or self._check(digest, match[1], secret)

    def recognises(self, secret: str) -> bool:
        """Whether this secret passed before, has not failed since, and no key was revoked since.

        This reads and hashes nothing. The secret may be invalid by now: only `authenticate` decides.
        """
        with self._lock:
            return self._digest(secret) in self._cache

    def claimed(self, secret: str) -> str | None:
        """Id of the valid key that a secret claims to belong to, unchecked; None if there is no such key.

        Raises:
            LedgerError: If the database cannot be read.
        """
        match = SECRET.fullmatch(secret)
        return match[1] if match is not None and self._valid_row(match[1]) is not None else None

    def _cached(self, digest: bytes) -> Principal | None:
        """The owner of a secret that passed within the last minute."""
        with self._lock:
            principal, until = self._cache.get(digest, (None, 0.0))
        return principal if self._monotonic() < until else None

    def _check(self, digest: bytes, id: str, secret: str) -> Principal | None:
        with self._lock:
            revocations = self._revocations
        started = self._monotonic()
        principal = self._look_up(id, secret)
        with self._lock:
            if principal is None:
                self._cache.pop(digest, None)
            elif revocations == self._revocations:  # no key was revoked during the check
                if len(self._cache) >= CACHE_SIZE:
                    self._cache.clear()
                self._cache[digest] = (principal, started + CACHE_SECONDS)
        return principal

    def _digest(self, secret: str) -> bytes:
        return hashlib.sha256(self._salt + secret.encode()).digest()

    def _look_up(self, id: str, secret: str) -> Principal | None:
        row = self._valid_row(id)
        if row is None:
            self._matches(self._decoy, secret)
            return None
        if not self._matches(row["hash"], _hashed_text(secret, row["scope"], row["tenant"])):
            return None
        return Principal(id, row["label"], check_scope(row["scope"]), row["tenant"])

    def _valid_row(self, id: str) -> dict[str, Any] | None:
        with self._database.reading() as connection:
            row = _row(connection, id)
        return None if row is None or row["revoked_at"] is not None else row

    def _matches(self, hash: str, text: str) -> bool:
        try:
            return self._hasher.verify(hash, text)
        except (Argon2Error, InvalidHashError):
            return False

    @cached_property
    def _decoy(self) -> str:
        """The hash that secrets of unknown keys are compared with; it never matches."""
        return self._hasher.hash(secrets.token_hex(32))


def list_keys(connection: Connection) -> list[KeyRecord]:
    """Every key, including revoked ones, oldest first."""
    query = select(tables.keys).order_by(tables.keys.c.created_at, tables.keys.c.id)
    return [_record(row) for row in tables.rows(connection, query)]


def _hashed_text(secret: str, scope: str, tenant: str | None) -> str:
    """The text to hash. It includes scope and tenant, so that a row edited by hand no longer matches its key."""
    return f"{secret} {scope} {tenant or ''}"


def _row(connection: Connection, id: str) -> dict[str, Any] | None:
    if not isinstance(id, str) or not re.fullmatch(r"[0-9a-f]{8}", id):
        return None
    return tables.one(connection, select(tables.keys).where(tables.keys.c.id == id))


def _record(row: dict[str, Any]) -> KeyRecord:
    times = {"created_at": time_of(row["created_at"]), "revoked_at": time_of(row["revoked_at"])}
    return KeyRecord(**{**{key: value for key, value in row.items() if key != "hash"}, **times})
