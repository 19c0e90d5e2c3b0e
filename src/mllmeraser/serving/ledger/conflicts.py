"""Warnings for an operator before an entry becomes active."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mllmeraser.serving.ledger.entries import Entry
from mllmeraser.serving.ledger.states import stamp

SHORTEST_DIGEST = 16  # shorter values are counts


def conflicts_among(entry: Entry, entries: Iterable[Entry], now: datetime) -> list[str]:
    """Warnings, one line each, from ``entries`` alone. Pass only entries that the reader may see."""
    others = [other for other in entries if other.state != "revoked" and other.id != entry.id]
    overlapping = [other for other in others if entry.tenant is None or other.tenant in (None, entry.tenant)]
    lines = [
        f"{other.name} is active with the same artifact"
        for other in overlapping
        if other.state == "active" and entry.artifact_digest is not None
        if other.artifact_digest == entry.artifact_digest
    ]
    lines += [
        f"{other.name} ({other.state}) was requested for the same {' and '.join(same)}"
        for other in overlapping
        if (same := _shared(entry, other))
    ]
    if entry.is_over(now) and entry.expires_at is not None:
        lines.append(f"its schedule was over at {stamp(entry.expires_at)}")
    odd = [other for other in others if other.state == "active" and other.fingerprint != entry.fingerprint]
    if entry.fingerprint is not None and odd:
        lines.append(f"{len(odd)} active eraser(s) were fitted on another model than this one")
    return lines


def _shared(entry: Entry, other: Entry) -> list[str]:
    """What two requests have in common according to their digests: people, samples, or both."""
    kinds = {"subject": "people", "forget": "samples"}
    return [word for prefix, word in kinds.items() if _digests(entry, prefix) & _digests(other, prefix)]


def _digests(entry: Entry, prefix: str) -> set[str]:
    values = (value for key, value in entry.request_digests.items() if key.startswith(prefix))
    return {part for value in values for part in value.replace(",", " ").split() if len(part) >= SHORTEST_DIGEST}
