"""The half of a ledger that changes entries."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import artifacts, notes, tables
from mllmeraser.serving.ledger.chain import canonical
from mllmeraser.serving.ledger.change import Change
from mllmeraser.serving.ledger.entries import Entry, entry_of
from mllmeraser.serving.ledger.errors import TransitionError
from mllmeraser.serving.ledger.notes import Note
from mllmeraser.serving.ledger.reading import LedgerReader
from mllmeraser.serving.ledger.states import (
    State,
    check_name,
    check_tenant,
    check_text,
    check_times,
    stamp,
    stamp_or_none,
)


class EntryWriter(LedgerReader):
    """The methods of a ledger that change entries. Each is one transaction, which also records an event.

    `by` says who makes the change. Every method raises a `LedgerError` if the database is out of reach or full, and
    an `InputError` for invalid values; then nothing was changed. Every step that the state of the entry does not
    allow raises a `TransitionError`.
    """

    @contextmanager
    def _changing(self, by: str) -> Iterator[Change]:
        """A change. It is stored when the block ends, and not at all if the block raises."""
        with self._database.writing() as connection:
            yield Change(connection, self._clock(), by)

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
        """Create an entry.

        Args:
            digests: Salted digests and counts of the request, no personal data. `conflicts` compares those under keys
                that begin with `subject` or `forget`, if they were made with this ledger's `salt`.
            inputs: The packed request, which is personal data. It is erased when the entry is verified, activated by
                force, or revoked.

        Raises:
            NameTakenError: If an entry that is not revoked has the same name.
        """
        with self._changing(by) as change:
            entry = _request(change, name, tenant, default, digests, starts_at, expires_at)
            if inputs is not None:
                change.connection.execute(insert(tables.inputs).values(entry=entry.id, data=inputs))
            return entry

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
        """Create an entry with an existing eraser: `request` and `fitted` in one change."""
        with self._changing(by) as change:
            entry = _request(change, name, tenant, default, digests)
            return _fitted(change, entry.id, artifact, fingerprint, digest)

    def failed(self, id: str, *, by: str, reason: str) -> Entry:
        """Record that fitting or verifying failed. State and inputs stay for another try.

        Args:
            reason: One line without personal data.
        """
        with self._changing(by) as change:
            entry = _unverified(change, id, "fail")
            reason = check_text("the reason", reason)
            return change.save(replace(entry, failure=reason), "failed", reason=reason)

    def begun_again(self, id: str, *, by: str) -> Entry:
        """Record another try after a failure, and clear the failure."""
        with self._changing(by) as change:
            entry = _unverified(change, id, "begin again")
            return change.save(replace(entry, failure=None), "begun-again")

    def fitted(self, id: str, *, by: str, artifact: Mapping[str, bytes], fingerprint: str, digest: str) -> Entry:
        """Store the fitted eraser. The inputs stay, because verification needs them.

        Args:
            artifact: The two files of the eraser, by name.
            fingerprint: Fingerprint of the model.
            digest: SHA-256 of the tensor file, `Eraser.digest()`.
        """
        with self._changing(by) as change:
            return _fitted(change, id, artifact, fingerprint, digest)

    def verified(self, id: str, *, by: str, scores: Mapping[str, Any], passed: bool) -> Entry:
        """Store the result of verification, and erase the inputs. A failure cancels a pending activation."""
        with self._changing(by) as change:
            passed = bool(passed)
            state: State = "verified" if passed else "checks_failed"
            entry, scores = change.find(id, to=state), json.loads(canonical(dict(scores)))
            _erase_inputs(change, entry)
            pending = entry.pending and passed
            entry = replace(entry, state=state, scores=scores, passed=passed, failure=None, pending=pending)
            entry = change.save(entry, "verified" if passed else "checks-failed", passed=passed)
        self._database.shrink()
        return entry

    def activate(self, id: str, *, by: str, force: str | None = None) -> Entry:
        """Activate an entry now, or mark it for `tick` if its start lies ahead.

        Args:
            force: Reason to activate an entry that did not pass or was not verified. It is recorded.

        Raises:
            TransitionError: If its state does not allow it, it did not pass, or its schedule is over.
        """
        with self._changing(by) as change:
            entry = _activate(change, id, force)
        self._database.shrink()
        return entry

    def suspend(self, id: str, *, by: str, reason: str) -> Entry:
        """Deactivate an entry until it is activated again."""
        with self._changing(by) as change:
            entry, reason = change.find(id, to="suspended"), check_text("the reason", reason)
            return change.save(replace(entry, state="suspended", pending=False), "suspended", reason=reason)

    def revoke(self, id: str, *, by: str, reason: str) -> Entry:
        """Deactivate an entry for good, from any state. This erases its inputs and frees its name."""
        with self._changing(by) as change:
            entry, reason = change.find(id, to="revoked"), check_text("the reason", reason)
            _erase_inputs(change, entry)
            entry = change.save(replace(entry, state="revoked", pending=False), "revoked", reason=reason)
        self._database.shrink()
        return entry

    def schedule(
        self, id: str, *, by: str, starts_at: datetime | None = None, expires_at: datetime | None = None
    ) -> Entry:
        """Set both ends of an entry's schedule; None removes an end. Without a start, a pending activation ends."""
        with self._changing(by) as change:
            entry = change.find(id)
            if entry.state == "revoked":
                raise TransitionError(f"{entry.name}: revoked, which is final: it cannot be scheduled")
            check_times(change.now, starts_at, expires_at)
            if entry.state == "active" and starts_at is not None and starts_at > change.now:
                raise TransitionError(f"{entry.name}: is active already: suspend it first, or give expires_at alone")
            pending = entry.pending and starts_at is not None
            entry = replace(entry, starts_at=starts_at, expires_at=expires_at, pending=pending)
            times = {"starts_at": stamp_or_none(starts_at), "expires_at": stamp_or_none(expires_at)}
            return change.save(entry, "scheduled", **times)

    def note(self, id: str, *, by: str, text: str) -> Note:
        """Add a note to an entry in any state. Its text is kept for good, so it is no place for personal data."""
        with self._changing(by) as change:
            return notes.add(change, change.find(id), text)

    def tick(self, now: datetime | None = None, *, by: str = "schedule") -> list[Entry]:
        """Apply all schedules at `now`. Returns the changed entries. Any number of servers may call it at once."""
        now = now or self._clock()
        with self._database.reading() as connection:
            if not _due(connection, now):
                return []
        with self._changing(by) as change:
            return [
                change.save(replace(entry, state="suspended", pending=False), "suspended", reason="expired")
                if entry.state == "active"
                else change.save(replace(entry, state="active", pending=False), "activated", scheduled=True)
                for entry in _due(change.connection, now)
            ]


def _request(
    change: Change,
    name: str,
    tenant: str | None,
    default: bool,
    digests: Mapping[str, str],
    starts_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> Entry:
    check_times(change.now, starts_at, expires_at)
    check_name(name)
    check_tenant(tenant)
    if any(not isinstance(text, str) for pair in digests.items() for text in pair):
        raise InputError("the digests of a request have to be text, by name")
    entry = Entry(
        id=secrets.token_hex(16),
        name=name,
        tenant=tenant,
        default=bool(default),
        state="requested",
        requested_at=change.now,
        requested_by=change.by,
        starts_at=starts_at,
        expires_at=expires_at,
        request_digests=dict(digests),
    )
    details = {"state": "requested", "name": name, "tenant": tenant, "default": entry.default}
    return change.create(entry, "requested", **details, request_digests=dict(digests))


def _unverified(change: Change, id: str, what: str) -> Entry:
    entry = change.find(id)
    if entry.state not in ("requested", "fitted"):
        raise TransitionError(f"{entry.name}: is {entry.state}, so neither fitting nor verifying it can {what}")
    return entry


def _fitted(change: Change, id: str, artifact: Mapping[str, bytes], fingerprint: str, digest: str) -> Entry:
    entry, fingerprint = change.find(id, to="fitted"), check_text("the model's fingerprint", fingerprint)
    files = artifacts.store(change.connection, digest, artifact)
    entry = replace(entry, state="fitted", artifact_digest=digest, fingerprint=fingerprint, failure=None)
    return change.save(entry, "fitted", artifact=digest, files=files, fingerprint=fingerprint)


def _activate(change: Change, id: str, force: str | None) -> Entry:
    entry = change.find(id, to="active")
    force = None if force is None else check_text("the reason for force", force)
    if force is None and entry.state == "fitted":
        raise TransitionError(f"{entry.name}: fitted cannot become active: verify it first, or give a reason to force")
    if force is None and entry.passed is not True:
        raise TransitionError(f"{entry.name}: did not pass verification: fit it again, or give a reason to force")
    if entry.is_over(change.now):
        raise TransitionError(f"{entry.name}: its schedule is over: give it another expires_at first")
    _erase_inputs(change, entry)  # after a forced activation no verification needs them
    if entry.starts_at is not None and entry.starts_at > change.now:
        at = stamp(entry.starts_at)
        return change.save(replace(entry, pending=True), "activation-scheduled", starts_at=at, force=force)
    return change.save(replace(entry, state="active", pending=False), "activated", force=force)


def _erase_inputs(change: Change, entry: Entry) -> None:
    change.connection.execute(delete(tables.inputs).where(tables.inputs.c.entry == entry.id))


def _due(connection: Connection, now: datetime) -> list[Entry]:
    """Entries that `tick` has to change, oldest first."""
    table = tables.entries.c
    query = select(tables.entries).where(
        (table.starts_at <= stamp(now)) | (table.expires_at <= stamp(now)), table.state != "revoked"
    )
    entries = [entry_of(row) for row in tables.rows(connection, query.order_by(table.seq))]
    return [entry for entry in entries if _starts(entry, now) or (entry.state == "active" and entry.is_over(now))]


def _starts(entry: Entry, now: datetime) -> bool:
    """Whether `tick` has to activate an entry: its start has come, and it is pending or has passed verification."""
    if entry.starts_at is None or entry.starts_at > now or entry.is_over(now):
        return False
    waits = entry.state in ("fitted", "verified", "checks_failed", "suspended")
    return (waits and entry.pending) or entry.state == "verified"
