"""How routes show entries, events and notes, without personal data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mllmeraser.serving.http.fits import Step
from mllmeraser.serving.ledger import Entry

SHOWN = (
    "id", "name", "kinds", "tenant", "default", "state", "pending", "requested_at", "requested_by", "starts_at",
    "expires_at", "artifact_digest", "request_digests", "scores", "passed", "failure",
)  # fmt: skip
"""Fields of an entry that routes show."""


def to_json(entry: Entry, steps: Mapping[str, Step]) -> dict[str, Any]:
    """An entry, with its progress."""
    step = steps.get(entry.id)
    shown = {name: _plain(getattr(entry, name)) for name in SHOWN}
    return {**shown, "progress": None if step is None else step._asdict()}


def event_json(event: Any) -> dict[str, Any]:
    """An event of the audit chain."""
    return {
        "seq": event.seq, "at": _plain(event.at), "action": event.action, "by": event.by, "entry": event.about,
        "details": dict(event.details), "hash": event.hash,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else dict(value) if isinstance(value, Mapping) else value
