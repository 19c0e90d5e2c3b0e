"""The steps in the life of an entry. Each is one change of one entry, with what it records."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import artifacts, tables
from mllmeraser.serving.ledger.chain import canonical
from mllmeraser.serving.ledger.change import Change
from mllmeraser.serving.ledger.entries import Entry, entry_of
from mllmeraser.serving.ledger.errors import TransitionError
from mllmeraser.serving.ledger.states import (
    check_name,
    check_tenant,
    check_text,
    check_times,
    check_transition,
    stamp,
    stamp_or_none,
)


def request(
    change: Change,
    name: str,
    *,
    tenant: str | None,
    default: bool,
    starts_at: datetime | None,
    expires_at: datetime | None,
    digests: Mapping[str, str],
    inputs: bytes | None,
) -> Entry:
    """A new entry, with its packed request if there is one."""
    check_times(change.now, starts_at, expires_at)
    entry = Entry(
        id=secrets.token_hex(16),
        name=check_name(name),
        tenant=check_tenant(tenant),
        default=bool(default),
        state="requested",
        requested_at=change.now,
        requested_by=change.by,
        starts_at=starts_at,
        expires_at=expires_at,
        request_digests=_checked_digests(digests),
    )
    details = {"state": "requested", "name": name, "tenant": tenant, "default": entry.default}
    entry = change.create(entry, "requested", **details, request_digests=dict(entry.request_digests))
    if inputs is not None:
        change.connection.execute(insert(tables.inputs).values(entry=entry.id, data=inputs))
    return entry


def failed(change: Change, id: str, *, reason: str) -> Entry:
    """Fitting or verifying failed; the state and the inputs stay, so that it can be tried again."""
    entry = change.find(id)
    if entry.state not in ("requested", "fitted"):
        raise TransitionError(f"{entry.name}: is {entry.state}, so neither fitting nor verifying it can fail")
    reason = check_text("the reason", reason)
    return change.save(replace(entry, failure=reason), "failed", reason=reason)


def begun_again(change: Change, id: str) -> Entry:
    """What failed is tried once more."""
    entry = change.find(id)
    if entry.state not in ("requested", "fitted"):
        raise TransitionError(f"{entry.name}: is {entry.state}, so neither its fit nor its verification begins again")
    return change.save(replace(entry, failure=None), "begun-again")


def fitted(change: Change, id: str, *, artifact: Mapping[str, bytes], fingerprint: str, digest: str) -> Entry:
    """The eraser is stored; the inputs stay until it is verified, which needs them."""
    entry = change.find(id)
    check_transition(entry.name, entry.state, "fitted")
    fingerprint = check_text("the model's fingerprint", fingerprint)
    files = artifacts.store(change.connection, digest, artifact)
    entry = replace(entry, state="fitted", artifact_digest=digest, fingerprint=fingerprint, failure=None)
    return change.save(entry, "fitted", artifact=digest, files=files, fingerprint=fingerprint)


def verified(change: Change, id: str, *, scores: Mapping[str, Any], passed: bool) -> Entry:
    """What verification measured; the inputs are erased. Not passed, an activation that was waiting is off."""
    entry = change.find(id)
    check_transition(entry.name, entry.state, "verified")
    scores = json.loads(canonical(dict(scores)))
    passed = bool(passed)
    _erase_inputs(change, entry)
    pending = entry.pending and passed
    entry = replace(entry, state="verified", scores=scores, passed=passed, failure=None, pending=pending)
    return change.save(entry, "verified", passed=passed)


def activate(change: Change, id: str, *, force: str | None) -> Entry:
    """Into force now, or, where the start lies ahead, marked so that `tick` does it then."""
    entry = change.find(id)
    check_transition(entry.name, entry.state, "active")
    force = None if force is None else check_text("the reason for force", force)
    if force is None and entry.state == "fitted":
        raise TransitionError(f"{entry.name}: fitted cannot become active: verify it first, or give a reason to force")
    if force is None and entry.passed is not True:
        raise TransitionError(f"{entry.name}: did not pass verification: fit it again, or give a reason to force")
    if is_over(entry, change.now):
        raise TransitionError(f"{entry.name}: its schedule is over: give it another expires_at first")
    _erase_inputs(change, entry)  # forced without verification, nothing will need them any more
    if entry.starts_at is not None and entry.starts_at > change.now:
        at = stamp(entry.starts_at)
        return change.save(replace(entry, pending=True), "activation-scheduled", starts_at=at, force=force)
    return change.save(replace(entry, state="active", pending=False), "activated", force=force)


def suspend(change: Change, id: str, *, reason: str) -> Entry:
    """Out of force, until activated again."""
    entry = change.find(id)
    check_transition(entry.name, entry.state, "suspended")
    reason = check_text("the reason", reason)
    return change.save(replace(entry, state="suspended", pending=False), "suspended", reason=reason)


def revoke(change: Change, id: str, *, reason: str) -> Entry:
    """Out of force for good; the inputs are erased and the name is free."""
    entry = change.find(id)
    check_transition(entry.name, entry.state, "revoked")
    reason = check_text("the reason", reason)
    _erase_inputs(change, entry)
    return change.save(replace(entry, state="revoked", pending=False), "revoked", reason=reason)


def schedule(change: Change, id: str, *, starts_at: datetime | None, expires_at: datetime | None) -> Entry:
    """Another schedule. Without a start nothing waits for it any more."""
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


def is_over(entry: Entry, now: datetime) -> bool:
    """Whether its time has run out."""
    return entry.expires_at is not None and entry.expires_at <= now


def is_due(entry: Entry, now: datetime) -> bool:
    """Whether its time has come: activated beforehand, or verified and passed with a start."""
    if entry.starts_at is None or entry.starts_at > now or is_over(entry, now):
        return False
    waits = entry.state in ("fitted", "verified", "suspended")
    return (waits and entry.pending) or (entry.state == "verified" and entry.passed is True)


def due(connection: Connection, now: datetime) -> list[Entry]:
    """Entries that `tick` has to change, oldest first."""
    table = tables.entries.c
    query = select(tables.entries).where(
        (table.starts_at <= stamp(now)) | (table.expires_at <= stamp(now)), table.state != "revoked"
    )
    entries = [entry_of(row) for row in tables.rows(connection, query.order_by(table.seq))]
    return [entry for entry in entries if is_due(entry, now) or (entry.state == "active" and is_over(entry, now))]


def tick(change: Change, now: datetime) -> list[Entry]:
    """Change everything whose time has come at `now`."""
    return [
        change.save(replace(entry, state="suspended", pending=False), "suspended", reason="expired")
        if entry.state == "active"
        else change.save(replace(entry, state="active", pending=False), "activated", scheduled=True)
        for entry in due(change.connection, now)
    ]


def _erase_inputs(change: Change, entry: Entry) -> None:
    change.connection.execute(delete(tables.inputs).where(tables.inputs.c.entry == entry.id))


def _checked_digests(digests: Mapping[str, str]) -> dict[str, str]:
    if any(not isinstance(text, str) for pair in digests.items() for text in pair):
        raise InputError("digests of a request are text by text")
    return dict(digests)
