"""The files of erasers, stored once per digest, and never given out unless they are what was stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import tables
from mllmeraser.serving.ledger.errors import LedgerError
from mllmeraser.serving.ledger.states import DIGEST

# Keys of a manifest that say where an eraser comes from, not how it acts: who fits the same again gets others.
DESCRIPTIVE = frozenset(
    {"created", "package_version", "subjects", "counts", "data", "calibration", "verification", "derived_from"}
)


def checksums(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def check_files(digest: str, files: Mapping[str, bytes]) -> None:
    """Make sure that these are files that may be stored under this digest.

    Raises:
        InputError: If the digest is of none of the files, or a file has no plain name.
    """
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise InputError("the digest of an artifact is the SHA-256 of its tensors, 64 hex digits")
    for name, data in files.items():
        if not name or len(name) > 128 or not name.isprintable() or "/" in name or "\\" in name:
            raise InputError(f"{name!r} is no plain file name")
        if not isinstance(data, bytes):
            raise InputError(f"{name} has to be bytes")
    if digest not in checksums(files).values():
        raise InputError("the digest is of none of the artifact's files: they are corrupt, or another eraser's")


def store(connection: Connection, digest: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Store an artifact, or keep the one that is there and acts the same; gives the checksums of what is stored.

    Raises:
        InputError: If the files cannot be stored under this digest, or an artifact in use has the same tensors and
            acts otherwise (another strength, threshold or policy).
        LedgerError: If an artifact in use has the same tensors and is damaged.
    """
    check_files(digest, files)
    sums = checksums(files)
    rows = _rows(connection, digest)
    if rows and {row["file"]: row["sha256"] for row in rows} != sums and _in_use(connection, digest):
        there = load(connection, digest)
        if not _acts_alike(there, files):
            raise InputError(
                "an eraser with the same tensors and other settings is in use: revoke it first, or fit this one again"
            )
        return checksums(there)
    # new, in nobody's use, or the very same: what is there may be damaged, and then this repairs it
    connection.execute(delete(tables.artifacts).where(tables.artifacts.c.digest == digest))
    fresh = [{"digest": digest, "file": name, "sha256": sums[name], "data": files[name]} for name in sorted(files)]
    connection.execute(insert(tables.artifacts), fresh)
    return sums


def load(connection: Connection, digest: str) -> dict[str, bytes]:
    """The files of an artifact.

    Raises:
        LedgerError: If there is none of this digest, or what is stored is not what was stored.
    """
    rows = _rows(connection, digest)
    if not rows:
        raise LedgerError(f"no artifact {str(digest)[:12]} is stored")
    files = {row["file"]: bytes(row["data"]) for row in rows}
    sums = checksums(files)
    wrong = sorted(row["file"] for row in rows if sums[row["file"]] != row["sha256"])
    if wrong or digest not in sums.values():
        damaged = wrong[0] if wrong else "its tensor file"
        raise LedgerError(
            f"the stored artifact {digest[:12]} is damaged ({damaged}): restore a backup, or revoke and fit it again"
        )
    return files


def stored_checksums(connection: Connection, digest: str) -> dict[str, str]:
    """SHA-256 of each file of an artifact as it was stored, by name; none where there is no such artifact."""
    table = tables.artifacts.c
    query = select(table.file, table.sha256).where(table.digest == digest).order_by(table.file)
    return {file: sum for file, sum in connection.execute(query)}


def _rows(connection: Connection, digest: str) -> list[dict[str, Any]]:
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        return []
    query = select(tables.artifacts).where(tables.artifacts.c.digest == digest)
    return tables.rows(connection, query)


def _in_use(connection: Connection, digest: str) -> bool:
    table = tables.entries.c
    query = select(table.id).where(table.artifact_digest == digest, table.state != "revoked").limit(1)
    return connection.execute(query).first() is not None


def _acts_alike(there: Mapping[str, bytes], files: Mapping[str, bytes]) -> bool:
    if set(there) != set(files):
        return False
    return all(there[name] == files[name] or _acting(there[name]) == _acting(files[name]) for name in files)


def _acting(data: bytes) -> Any:
    """A manifest without what is only told; the bytes themselves where they are none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return {k: v for k, v in content.items() if k not in DESCRIPTIVE} if isinstance(content, dict) else data
