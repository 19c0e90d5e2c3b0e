"""The tables as the newest migration creates them. Times and JSON are stored as text, the same in every database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Select

metadata = sa.MetaData()


def _columns(*, nullable: bool = False, **types: Any) -> list[sa.Column[Any]]:
    """Columns by name. They may be NULL only if `nullable`."""
    return [sa.Column(name, type_, nullable=nullable) for name, type_ in types.items()]


# One row, which writers lock. Readers that see it also see everything written with it.
head = sa.Table(
    "ledger_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    *_columns(seq=sa.Integer, hash=sa.String(64), version=sa.Integer, in_force=sa.String(64), salt=sa.String(64)),
    sa.CheckConstraint("id = 1", name="ledger_head_one"),
)

# Triggers in the migration refuse every change to a row.
events = sa.Table(
    "ledger_events",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    *_columns(at=sa.String(32), actor=sa.Text, action=sa.String(64)),
    sa.Column("about", sa.String(32), index=True),
    *_columns(details=sa.Text, version=sa.Integer, in_force=sa.String(64)),
    sa.Column("row_digest", sa.String(64)),
    *_columns(previous=sa.String(64), hash=sa.String(64)),
)

entries = sa.Table(
    "ledger_entries",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    *_columns(seq=sa.Integer, name=sa.String(64)),
    sa.Column("tenant", sa.String(64)),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    *_columns(requested_at=sa.String(32), requested_by=sa.Text),
    *_columns(nullable=True, starts_at=sa.String(32), expires_at=sa.String(32)),
    sa.Column("artifact_digest", sa.String(64), index=True),
    sa.Column("fingerprint", sa.Text),
    sa.Column("request_digests", sa.Text, nullable=False),
    *_columns(nullable=True, scores=sa.Text, passed=sa.Boolean, failure=sa.Text),
    sa.Column("pending", sa.Boolean, nullable=False),
    sa.CheckConstraint(
        "state IN ('requested', 'fitted', 'verified', 'active', 'suspended', 'revoked')", name="ledger_entries_state"
    ),
)
LIVING = sa.text("state <> 'revoked'")
sa.Index("ledger_entries_name", entries.c.name, unique=True, sqlite_where=LIVING, postgresql_where=LIVING)

# Packed requests: personal data, kept only until the entry is verified, activated by force, or revoked.
inputs = sa.Table(
    "ledger_inputs",
    metadata,
    sa.Column("entry", sa.String(32), sa.ForeignKey("ledger_entries.id"), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

# Which server works on an entry. Any server may take an expired lease.
leases = sa.Table(
    "ledger_leases",
    metadata,
    sa.Column("entry", sa.String(32), sa.ForeignKey("ledger_entries.id"), primary_key=True),
    *_columns(server=sa.String(128), until=sa.String(32)),
)

notes = sa.Table(
    "ledger_notes",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("entry", sa.String(32), sa.ForeignKey("ledger_entries.id"), nullable=False, index=True),
    *_columns(seq=sa.Integer, at=sa.String(32), author=sa.Text, text=sa.Text),
)

artifacts = sa.Table(
    "ledger_artifacts",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("file", sa.String(128), primary_key=True),
    *_columns(sha256=sa.String(64), data=sa.LargeBinary),
)

# The last event that an address of webhooks knows of, and the server that sends until then.
webhooks = sa.Table(
    "ledger_webhooks",
    metadata,
    sa.Column("target", sa.String(64), primary_key=True),
    *_columns(seq=sa.Integer, server=sa.String(128), until=sa.String(32)),
)

keys = sa.Table(
    "ledger_keys",
    metadata,
    sa.Column("id", sa.String(8), primary_key=True),
    *_columns(label=sa.Text, scope=sa.String(16)),
    sa.Column("tenant", sa.String(64)),
    *_columns(hash=sa.Text, created_at=sa.String(32), created_by=sa.Text),
    sa.Column("revoked_at", sa.String(32)),
)

servers = sa.Table(
    "ledger_servers",
    metadata,
    sa.Column("server", sa.String(128), primary_key=True),
    *_columns(version=sa.Integer, ready=sa.Boolean, seen_at=sa.String(32)),
)


def rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    """The rows of a query as plain dicts."""
    return [row._asdict() for row in connection.execute(query)]


def one(connection: Connection, query: Select[Any]) -> dict[str, Any] | None:
    """The only row of a query as a plain dict, or None."""
    row = connection.execute(query).one_or_none()
    return None if row is None else row._asdict()
