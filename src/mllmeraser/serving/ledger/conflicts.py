"""What an operator should look at before an entry comes into force."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, select

from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.entries import Entry, entry_of
from mllmeraser.serving.ledger.lifecycle import is_over
from mllmeraser.serving.ledger.states import stamp

COUNT = 16  # shorter values are counts, not digests


def conflicts(connection: Connection, entry: Entry, now: datetime) -> list[str]:
    """One line each, for admins: compared with everybody's entries and those of its tenant, counted over all."""
    query = select(tables.entries).where(tables.entries.c.state != "revoked").order_by(tables.entries.c.seq)
    return conflicts_among(entry, [entry_of(row) for row in tables.rows(connection, query)], now)


def conflicts_among(entry: Entry, entries: Iterable[Entry], now: datetime) -> list[str]:
    """As `conflicts`, as far as ``entries`` tell: whoever may see only some of them is to be told of no others."""
    others = [other for other in entries if other.state != "revoked" and other.id != entry.id]
    meeting = [other for other in others if entry.tenant is None or other.tenant in (None, entry.tenant)]
    lines = [
        f"{other.name} is active with the same artifact"
        for other in meeting
        if other.state == "active" and entry.artifact_digest is not None
        if other.artifact_digest == entry.artifact_digest
    ]
    lines += [
        f"{other.name} ({other.state}) was requested for the same {' and '.join(same)}"
        for other in meeting
        if (same := _same(entry, other))
    ]
    if is_over(entry, now) and entry.expires_at is not None:
        lines.append(f"its schedule was over at {stamp(entry.expires_at)}")
    odd = [other for other in others if other.state == "active" and other.fingerprint != entry.fingerprint]
    if entry.fingerprint is not None and odd:
        lines.append(f"{len(odd)} active eraser(s) were fitted on another model than this one")
    return lines


def _same(entry: Entry, other: Entry) -> list[str]:
    """Which of subjects and forget samples two requests share, as far as their digests tell."""
    found = []
    for what in ("subject", "forget"):
        mine, theirs = _digests(entry, what), _digests(other, what)
        if mine & theirs:
            found.append({"subject": "people", "forget": "samples"}[what])
    return found


def _digests(entry: Entry, what: str) -> set[str]:
    values = (value for key, value in entry.request_digests.items() if key.startswith(what))
    return {part for value in values for part in value.replace(",", " ").split() if len(part) >= COUNT}
