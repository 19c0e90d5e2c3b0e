"""Erasures, their database rows, and the active set."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, false, or_, select

from mllmeraser.samples.subject import KIND_COUNT, KINDS, PERSON, Kind
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import canonical, digest_of
from mllmeraser.serving.ledger.errors import UnknownEntryError, UnknownEraser
from mllmeraser.serving.ledger.states import ID, NAME, State, stamp, stamp_or_none, time_of

SEARCHED = re.compile(r"[a-z0-9._-]{0,63}")
"""Characters of names and ids."""
VERIFIED: State = "verified"
"""What a row holds for both results of a verification; its column `passed` tells them apart. So old rows stay valid."""


@dataclass(frozen=True)
class Entry:
    """One erasure. All times are in UTC.

    Attributes:
        name: An operator's label, never a person's name. Unique among entries that are not revoked.
        tenant: The tenant it belongs to; None for all tenants.
        default: Whether it applies to every request (of the tenant), or only to those that ask for `model@name`.
        artifact_digest: SHA-256 of the tensors of its eraser.
        fingerprint: Fingerprint of the model that its eraser was fitted on.
        request_digests: Salted digests and counts of the request, no personal data.
        scores: What verification measured.
        passed: Whether verification passed; None before it. A failed one has the state "checks_failed" until it is
            activated by force.
        failure: Why fitting failed, or, in state "fitted", why verification did. One line without personal data.
        pending: True between an activation and its start time.
        seq: Position of its request in the record, which orders entries.
    """

    id: str
    name: str
    tenant: str | None
    default: bool
    state: State
    requested_at: datetime
    requested_by: str
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    artifact_digest: str | None = None
    fingerprint: str | None = None
    request_digests: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Any] | None = None
    passed: bool | None = None
    failure: str | None = None
    pending: bool = False
    seq: int = 0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What its subjects are; empty if its eraser was made elsewhere, by a version that did not record it."""
        known = tuple(kind for kind in KINDS if f"{KIND_COUNT}{kind}" in self.request_digests)
        older = not known and "forget_prompts" in self.request_digests  # from when a ledger took people alone
        return (PERSON,) if older else known

    def as_dict(self) -> dict[str, Any]:
        """Plain data, times as text."""
        times = ("requested_at", "starts_at", "expires_at")
        return {**asdict(self), **{key: stamp_or_none(getattr(self, key)) for key in times}, "kinds": [*self.kinds]}

    def is_over(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and self.expires_at <= now


def matches(search: str) -> ColumnElement[bool]:
    """The condition that a text is a part of an entry's name or the begin of its id."""
    table, text = tables.entries.c, search.strip().lower()
    if not SEARCHED.fullmatch(text):
        return false()
    return or_(table.name.contains(text, autoescape=True), table.id.startswith(text, autoescape=True))


def row_of(entry: Entry) -> dict[str, Any]:
    """The row of an entry."""
    row = {column.name: getattr(entry, column.name, None) for column in tables.entries.columns}
    return {
        **row,
        "is_default": entry.default,
        "state": VERIFIED if entry.state == "checks_failed" else entry.state,
        "requested_at": stamp(entry.requested_at),
        "starts_at": stamp_or_none(entry.starts_at),
        "expires_at": stamp_or_none(entry.expires_at),
        "request_digests": canonical(dict(entry.request_digests)),
        "scores": None if entry.scores is None else canonical(dict(entry.scores)),
    }


def entry_of(row: Mapping[str, Any]) -> Entry:
    """The entry of a row."""
    rest = {key: value for key, value in row.items() if key != "is_default"}
    times = {key: time_of(row[key]) for key in ("requested_at", "starts_at", "expires_at")}
    texts = {key: None if row[key] is None else json.loads(row[key]) for key in ("request_digests", "scores")}
    state = state_of(row["state"], row["passed"])
    return Entry(**{**rest, **times, **texts, "state": state, "default": row["is_default"]})


def state_of(stored: State, passed: bool | None) -> State:
    """The state of an entry, from what its row holds."""
    return "checks_failed" if stored == VERIFIED and passed is False else stored


def in_state(state: State) -> ColumnElement[bool]:
    """The condition that an entry is in this state."""
    table = tables.entries.c
    if state == "checks_failed":
        return and_(table.state == VERIFIED, table.passed.is_(False))
    if state == VERIFIED:
        return and_(table.state == VERIFIED, table.passed.is_not(False))
    return table.state == state


def find(connection: Connection, id_or_name: str) -> Entry:
    """The entry with this id, or the entry with this name that is not revoked.

    Raises:
        UnknownEntryError: If there is none.
    """
    columns = tables.entries.c
    if isinstance(id_or_name, str) and ID.fullmatch(id_or_name):
        query = select(tables.entries).where(columns.id == id_or_name)
    elif isinstance(id_or_name, str) and NAME.fullmatch(id_or_name):
        query = select(tables.entries).where(columns.name == id_or_name, columns.state != "revoked")
    else:
        raise UnknownEntryError(f"no erasure is called {str(id_or_name)[:80]!r}")
    row = tables.one(connection, query)
    if row is None:
        raise UnknownEntryError(f"no erasure is called {id_or_name}")
    return entry_of(row)


@dataclass(frozen=True)
class ActiveEraser:
    """One active eraser."""

    id: str
    name: str
    tenant: str | None
    default: bool
    artifact_digest: str
    fingerprint: str


@dataclass(frozen=True)
class EraserSet:
    """All active erasers at one moment, sorted by name. The version increases by one with every change."""

    version: int
    erasers: tuple[ActiveEraser, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over name, tenant, default and artifact of every eraser. Equal on servers with equal sets."""
        return digest_of([[e.name, e.tenant, e.default, e.artifact_digest] for e in self.erasers])

    def chosen(self, tenant: str | None, wanted: Collection[str] = ()) -> frozenset[str]:
        """Names of the erasers for one request: the defaults for its tenant, and those it asks for.

        Raises:
            UnknownEraser: If a wanted eraser is not active or belongs to another tenant. The message is the same.
        """
        visible = [eraser for eraser in self.erasers if eraser.tenant in (None, tenant)]
        missing = sorted(set(wanted) - {eraser.name for eraser in visible})
        if missing:
            raise UnknownEraser(f"no eraser called {missing[0]!r} is in force")
        return frozenset({eraser.name for eraser in visible if eraser.default} | set(wanted))


def read_set(connection: Connection, version: int) -> EraserSet:
    """The active set according to the entries."""
    table = tables.entries.c
    columns = (table.id, table.name, table.tenant, table.is_default, table.artifact_digest, table.fingerprint)
    rows = connection.execute(select(*columns).where(table.state == "active")).all()
    # sorted here, because databases sort text by different rules
    return EraserSet(version, tuple(sorted((ActiveEraser(*row) for row in rows), key=lambda e: e.name)))
