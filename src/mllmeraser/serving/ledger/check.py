"""Reading the whole ledger again, to find what was changed behind its back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.chain import START, digest_of, read_head, record_of, walk
from mllmeraser.serving.ledger.entries import row_digest
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.sets import read_set
from mllmeraser.serving.ledger.states import DIGEST


@dataclass(frozen=True)
class ChainReport:
    """What reading the whole record came to.

    Attributes:
        ok: Whether everything is as it was written.
        events: How many events are as they were written, from the first on.
        head: Place and hash of the last of them.
        bad: The first event that is not, or that what is stored does not agree with; None where no event tells.
        why: What is wrong, in one line.
    """

    ok: bool
    events: int
    head: tuple[int, str]
    bad: int | None = None
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        place = {"seq": self.head[0], "hash": self.head[1]}
        return {"ok": self.ok, "events": self.events, "head": place, "bad": self.bad, "why": self.why}


@dataclass
class _Walked:
    """What the events that were walked say, the last word on each."""

    seq: int = 0
    hash: str = START
    version: int = 0
    in_force: str = field(default_factory=lambda: digest_of([]))
    rows: dict[str, tuple[int, str]] = field(default_factory=dict)
    files: dict[str, tuple[int, Mapping[str, str]]] = field(default_factory=dict)


class _Bad(Exception):
    def __init__(self, seq: int | None, why: str) -> None:
        super().__init__(why)
        self.seq, self.why = seq, why


def parse_head(text: str) -> tuple[int, str]:
    """A head as `ledger verify` shows it: SEQ:HASH.

    Raises:
        InputError: If it is none.
    """
    seq, _, hash = text.strip().partition(":")
    if not seq.isdecimal() or not DIGEST.fullmatch(hash):
        raise InputError(f"{text!r} is no head: give SEQ:HASH as `ledger verify` shows it")
    return int(seq), hash


def check(connection: Connection, kept: tuple[int, str] | None = None) -> ChainReport:
    """Walk every event, then compare head, entries, keys, set in force and artifacts with what the events say.

    Args:
        kept: A head that was kept elsewhere: finds a record that was cut off and went on anew.
    """
    walked = _Walked()
    try:
        for row in walk(connection):
            _next(walked, row)
            if kept is not None and walked.seq == kept[0] and walked.hash != kept[1]:
                raise _Bad(walked.seq, "its hash is not the one that was kept elsewhere")
        if kept is not None and walked.seq < kept[0]:
            raise _Bad(walked.seq + 1, f"is gone: a head at {kept[0]} was kept elsewhere")
        _check_head(connection, walked)
        _check_rows(connection, walked)
        _check_files(connection, walked)
    except _Bad as bad:
        return ChainReport(False, walked.seq, (walked.seq, walked.hash), bad.seq, bad.why)
    return ChainReport(True, walked.seq, (walked.seq, walked.hash))


def _next(walked: _Walked, row: Mapping[str, Any]) -> None:
    seq = walked.seq + 1
    if row["seq"] != seq:
        raise _Bad(seq, f"is missing: {row['seq']} follows {walked.seq}")
    if row["previous"] != walked.hash:
        raise _Bad(seq, "does not follow the event before it")
    try:
        record = record_of(row)
        right = digest_of(record)
    except (ValueError, TypeError, RecursionError):
        raise _Bad(seq, "cannot be read") from None
    if row["hash"] != right:
        raise _Bad(seq, "was changed: its hash is of something else")
    if record["version"] != walked.version + int(record["in_force"] != walked.in_force):
        raise _Bad(seq, "skips a version of the set in force")
    walked.seq, walked.hash = seq, right
    walked.version, walked.in_force = record["version"], record["in_force"]
    if record["row_digest"] is not None:
        walked.rows[record["about"]] = (seq, record["row_digest"])
    details = record["details"]
    if record["action"] == "fitted":
        walked.files[details["artifact"]] = (seq, details["files"])


def _check_head(connection: Connection, walked: _Walked) -> None:
    try:
        head = read_head(connection)
    except LedgerError as error:
        raise _Bad(None, str(error)) from None
    if head.seq > walked.seq:
        raise _Bad(walked.seq + 1, f"is gone: the head stands at {head.seq}")
    if (head.seq, head.hash, head.version, head.in_force) != (
        walked.seq,
        walked.hash,
        walked.version,
        walked.in_force,
    ):
        raise _Bad(walked.seq, "is last, and the head does not stand there")


def _check_rows(connection: Connection, walked: _Walked) -> None:
    """Every entry and key is as its last event left it, none is missing, none came by another way."""
    left, bad = dict(walked.rows), []
    for table in (tables.entries, tables.keys):
        for row in tables.rows(connection, select(table)):
            seq, right = left.pop(row["id"], (0, ""))
            if not right:
                raise _Bad(None, f"{row['id']} is in {table.name}, and no event tells of it")
            if _digest_or_none(row) != right:
                bad.append((seq, f"left {row['id']} otherwise than {table.name} has it"))
    bad += [(seq, f"is about {about}, which is gone") for about, (seq, _) in left.items()]
    if bad:
        raise _Bad(*min(bad))
    if read_set(connection, 0).digest != walked.in_force:
        raise _Bad(walked.seq, "is last, and the set in force is not the one it left")


def _digest_or_none(row: Mapping[str, Any]) -> str | None:
    try:
        return row_digest(row)
    except Exception:  # bytes where text should be, and the like: not as it was written, whatever it is
        return None


def _check_files(connection: Connection, walked: _Walked) -> None:
    """The artifacts that entries use are, byte by byte, what the events say was stored."""
    table = tables.entries.c
    used = select(table.artifact_digest).where(table.state != "revoked", table.artifact_digest.is_not(None)).distinct()
    bad = []
    for (digest,) in connection.execute(used).all():
        rows = connection.execute(
            select(tables.artifacts.c.file, tables.artifacts.c.data).where(tables.artifacts.c.digest == digest)
        )
        stored = {row.file: hashlib.sha256(bytes(row.data)).hexdigest() for row in rows}
        seq, right = walked.files.get(digest, (walked.seq, {}))
        if stored != right:
            bad.append((seq, f"stored the artifact {digest[:12]} otherwise than it is now"))
    if bad:
        raise _Bad(*min(bad))
