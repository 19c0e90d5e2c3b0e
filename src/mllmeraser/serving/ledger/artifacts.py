"""The files of erasers, stored once per digest and checked against their checksums on every read."""

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

# Keys of a manifest that describe an eraser without changing what it does. A repeated fit gets other values.
DESCRIPTIVE = frozenset(
    {"created", "package_version", "subjects", "counts", "data", "calibration", "verification", "derived_from"}
)


def checksums(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def store(connection: Connection, digest: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Store an artifact, unless an equivalent one is in use. Returns the checksums of the stored files.

    Raises:
        InputError: If the files cannot be stored under this digest, or an artifact in use has the same tensors
            but another strength, threshold or policy.
        LedgerError: If an artifact in use has the same tensors and is damaged.
    """
    _check_files(digest, files)
    sums = checksums(files)
    stored = stored_checksums(connection, digest)
    if stored and stored != sums and _in_use(connection, digest):
        present = load(connection, digest)
        if not _equivalent(present, files):
            raise InputError(
                "an eraser with the same tensors and other settings is in use: revoke it first, or fit this one again"
            )
        return checksums(present)
    # The stored artifact is missing, unused or identical. An identical one may be damaged: writing repairs it.
    connection.execute(delete(tables.artifacts).where(tables.artifacts.c.digest == digest))
    fresh = [{"digest": digest, "file": name, "sha256": sums[name], "data": files[name]} for name in sorted(files)]
    connection.execute(insert(tables.artifacts), fresh)
    return sums


def load(connection: Connection, digest: str) -> dict[str, bytes]:
    """The files of an artifact, by name.

    Raises:
        LedgerError: If no artifact has this digest, or a stored file was damaged.
    """
    query = select(tables.artifacts).where(tables.artifacts.c.digest == digest)
    rows = tables.rows(connection, query) if _is_digest(digest) else []
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
    """SHA-256 of each file of an artifact at the time it was stored, by name. Empty if there is no such artifact."""
    table = tables.artifacts.c
    query = select(table.file, table.sha256).where(table.digest == digest).order_by(table.file)
    return {file: sum for file, sum in connection.execute(query)}


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and DIGEST.fullmatch(digest) is not None


def _check_files(digest: str, files: Mapping[str, bytes]) -> None:
    if not _is_digest(digest):
        raise InputError("the digest of an artifact is the SHA-256 of its tensors, 64 hex digits")
    for name, data in files.items():
        if not name or len(name) > 128 or not name.isprintable() or "/" in name or "\\" in name:
            raise InputError(f"{name!r} is not a plain file name")
        if not isinstance(data, bytes):
            raise InputError(f"{name} has to be bytes")
    if digest not in checksums(files).values():
        raise InputError("no file of the artifact has this digest: the files are corrupt, or of another eraser")


def _in_use(connection: Connection, digest: str) -> bool:
    table = tables.entries.c
    query = select(table.id).where(table.artifact_digest == digest, table.state != "revoked").limit(1)
    return connection.execute(query).first() is not None


def _equivalent(present: Mapping[str, bytes], files: Mapping[str, bytes]) -> bool:
    if set(present) != set(files):
        return False
    return all(files[name] == data or _functional(files[name]) == _functional(data) for name, data in present.items())


def _functional(data: bytes) -> Any:
    """A manifest without its descriptive keys. Any other file is returned as it is."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return {k: v for k, v in content.items() if k not in DESCRIPTIVE} if isinstance(content, dict) else data
