"""The tables, as the newest migration leaves them. Times and JSON are text, the same bytes in every database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

# One row. Writers lock it; a reader who sees it sees everything that belongs to it.
head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("in_force", String(64), nullable=False),
    Column("salt", String(64), nullable=False),
    CheckConstraint("id = 1", name="ledger_head_one"),
)

# Triggers refuse every change of a row: see the migration.
events = Table(
    "ledger_events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("about", String(32), nullable=True, index=True),
    Column("details", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("in_force", String(64), nullable=False),
    Column("row_digest", String(64), nullable=True),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

entries = Table(
    "ledger_entries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("name", String(64), nullable=False),
    Column("tenant", String(64), nullable=True),
    Column("is_default", Boolean, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("requested_at", String(32), nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("starts_at", String(32), nullable=True),
    Column("expires_at", String(32), nullable=True),
    Column("artifact_digest", String(64), nullable=True, index=True),
    Column("fingerprint", Text, nullable=True),
    Column("request_digests", Text, nullable=False),
    Column("scores", Text, nullable=True),
    Column("passed", Boolean, nullable=True),
    Column("failure", Text, nullable=True),
    Column("pending", Boolean, nullable=False),
    CheckConstraint(
        "state IN ('requested', 'fitted', 'verified', 'active', 'suspended', 'revoked')", name="ledger_entries_state"
    ),
)
LIVING = text("state <> 'revoked'")
Index("ledger_entries_name", entries.c.name, unique=True, sqlite_where=LIVING, postgresql_where=LIVING)

# Packed requests: personal data, kept only until the entry is fitted or revoked.
inputs = Table(
    "ledger_inputs",
    metadata,
    Column("entry", String(32), ForeignKey("ledger_entries.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

artifacts = Table(
    "ledger_artifacts",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("file", String(128), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
)

keys = Table(
    "ledger_keys",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("label", Text, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("tenant", String(64), nullable=True),
    Column("hash", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", String(32), nullable=True),
)

servers = Table(
    "ledger_servers",
    metadata,
    Column("server", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("seen_at", String(32), nullable=False),
)


def rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    """What a query gives, as plain dicts."""
    return [row._asdict() for row in connection.execute(query)]


def one(connection: Connection, query: Select[Any]) -> dict[str, Any] | None:
    """The only row a query gives, as a plain dict, or None."""
    row = connection.execute(query).one_or_none()
    return None if row is None else row._asdict()
