"""A check of the whole ledger, which finds any change made outside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import START, digest_of, read_head, record_of, walk
from mllmeraser.serving.ledger.entries import read_set
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.states import DIGEST


@dataclass(frozen=True)
class ChainReport:
    """The result of a check.

    Attributes:
        events: Number of intact events, from the first on.
        head: Position and hash of the last intact event.
        bad: First event that was changed or that the tables contradict; None if no event shows the damage.
    """

    ok: bool
    events: int
    head: tuple[int, str]
    bad: int | None = None
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        place = {"seq": self.head[0], "hash": self.head[1]}
        return {"ok": self.ok, "events": self.events, "head": place, "bad": self.bad, "why": self.why}


@dataclass
class _Replay:
    """What the events read so far say about the head, each row and each artifact."""

    seq: int = 0
    hash: str = START
    version: int = 0
    in_force: str = field(default_factory=lambda: digest_of([]))
    rows: dict[str, tuple[int, str]] = field(default_factory=dict)
    files: dict[str, tuple[int, Mapping[str, str]]] = field(default_factory=dict)


class _Mismatch(Exception):
    def __init__(self, seq: int | None, why: str) -> None:
        super().__init__(why)
        self.seq, self.why = seq, why


def parse_head(text: str) -> tuple[int, str]:
    """Parse a head as `ledger verify` shows it: SEQ:HASH.

    Raises:
        InputError: If the text has another form.
    """
    seq, _, hash = text.strip().partition(":")
    if not seq.isdecimal() or not DIGEST.fullmatch(hash):
        raise InputError(f"{text!r} is not a head: give SEQ:HASH as `ledger verify` shows it")
    return int(seq), hash


def check(connection: Connection, kept: tuple[int, str] | None = None) -> ChainReport:
    """Read every event, then compare head, entries, keys, active set and artifacts with what the events say.

    Args:
        kept: A head saved outside the database. It shows whether the record was cut off and continued.
    """
    replay = _Replay()
    try:
        for row in walk(connection):
            _next(replay, row)
            if kept is not None and replay.seq == kept[0] and replay.hash != kept[1]:
                raise _Mismatch(replay.seq, "differs from the head kept elsewhere")
        if kept is not None and replay.seq < kept[0]:
            raise _Mismatch(replay.seq + 1, f"is gone: the head kept elsewhere is at event {kept[0]}")
        _check_head(connection, replay)
        _check_rows(connection, replay)
        _check_files(connection, replay)
    except _Mismatch as bad:
        return ChainReport(False, replay.seq, (replay.seq, replay.hash), bad.seq, bad.why)
    return ChainReport(True, replay.seq, (replay.seq, replay.hash))


def _next(replay: _Replay, row: Mapping[str, Any]) -> None:
    seq = replay.seq + 1
    if row["seq"] != seq:
        raise _Mismatch(seq, f"is missing: event {row['seq']} follows event {replay.seq}")
    if row["previous"] != replay.hash:
        raise _Mismatch(seq, "does not follow the event before it")
    try:
        record = record_of(row)
        right = digest_of(record)
    except (ValueError, TypeError, RecursionError):
        raise _Mismatch(seq, "cannot be read") from None
    if row["hash"] != right:
        raise _Mismatch(seq, "was changed: its hash does not match its content")
    if record["version"] != replay.version + int(record["in_force"] != replay.in_force):
        raise _Mismatch(seq, "skips a version of the set in force")
    replay.seq, replay.hash = seq, right
    replay.version, replay.in_force = record["version"], record["in_force"]
    if record["row_digest"] is not None:
        replay.rows[record["about"]] = (seq, record["row_digest"])
    details = record["details"]
    if record["action"] == "fitted":
        replay.files[details["artifact"]] = (seq, details["files"])


def _check_head(connection: Connection, replay: _Replay) -> None:
    try:
        head = read_head(connection)
    except LedgerError as error:
        raise _Mismatch(None, str(error)) from None
    if head.seq > replay.seq:
        raise _Mismatch(replay.seq + 1, f"is gone: the head is at event {head.seq}")
    if any(getattr(head, key) != getattr(replay, key) for key in ("seq", "hash", "version", "in_force")):
        raise _Mismatch(replay.seq, "is the last event, but the head points elsewhere")


def _check_rows(connection: Connection, replay: _Replay) -> None:
    """Check that every entry, key and note is as its last event left it, with none missing and none added."""
    left, bad = dict(replay.rows), []
    for table in (tables.entries, tables.keys, tables.notes):
        for row in tables.rows(connection, select(table)):
            seq, right = left.pop(row["id"], (0, ""))
            if not right:
                raise _Mismatch(None, f"{row['id']} is in {table.name}, but no event recorded it")
            if _digest_or_none(row) != right:
                bad.append((seq, f"recorded other values for {row['id']} than {table.name} holds"))
    bad += [(seq, f"is about {about}, which is gone") for about, (seq, _) in left.items()]
    if bad:
        raise _Mismatch(*min(bad))
    if read_set(connection, 0).digest != replay.in_force:
        raise _Mismatch(replay.seq, "is the last event, but the set in force is not the one it recorded")


def _digest_or_none(row: Mapping[str, Any]) -> str | None:
    try:
        return digest_of(row)
    except Exception:  # such as bytes in a text column: in any case not what was written
        return None


def _check_files(connection: Connection, replay: _Replay) -> None:
    """Check that the artifacts in use are byte for byte what the events say was stored."""
    entry, artifact = tables.entries.c, tables.artifacts.c
    used = select(entry.artifact_digest).where(entry.state != "revoked", entry.artifact_digest.is_not(None)).distinct()
    bad = []
    for (digest,) in connection.execute(used).all():
        rows = connection.execute(select(artifact.file, artifact.data).where(artifact.digest == digest))
        stored = {row.file: hashlib.sha256(bytes(row.data)).hexdigest() for row in rows}
        seq, right = replay.files.get(digest, (replay.seq, {}))
        if stored != right:
            bad.append((seq, f"stored the artifact {digest[:12]}, which has changed since"))
    if bad:
        raise _Mismatch(*min(bad))
