"""The first tables, and the triggers that forbid changes to events."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

SQLITE_TRIGGERS = (
    """CREATE TRIGGER ledger_events_no_update BEFORE UPDATE ON ledger_events
    BEGIN SELECT RAISE(ABORT, 'ledger_events is append-only'); END""",
    """CREATE TRIGGER ledger_events_no_delete BEFORE DELETE ON ledger_events
    BEGIN SELECT RAISE(ABORT, 'ledger_events is append-only'); END""",
    # INSERT OR REPLACE deletes without firing the trigger above
    """CREATE TRIGGER ledger_events_no_replace BEFORE INSERT ON ledger_events
    WHEN EXISTS (SELECT 1 FROM ledger_events WHERE seq >= NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'ledger_events is append-only'); END""",
)
POSTGRESQL_TRIGGERS = (
    """CREATE FUNCTION ledger_events_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'ledger_events is append-only'; END $$""",
    """CREATE TRIGGER ledger_events_no_change BEFORE UPDATE OR DELETE ON ledger_events
    FOR EACH ROW EXECUTE FUNCTION ledger_events_refuse()""",
    """CREATE TRIGGER ledger_events_no_truncate BEFORE TRUNCATE ON ledger_events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_events_refuse()""",
    # also in a session that replays another server's changes
    "ALTER TABLE ledger_events ENABLE ALWAYS TRIGGER ledger_events_no_change",
    "ALTER TABLE ledger_events ENABLE ALWAYS TRIGGER ledger_events_no_truncate",
)


def _columns(*, nullable: bool = False, **types: Any) -> list[sa.Column[Any]]:
    """Columns by name. They may be NULL only if `nullable`."""
    return [sa.Column(name, type_, nullable=nullable) for name, type_ in types.items()]


def upgrade() -> None:
    """Create everything, with a head before the first event."""
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        *_columns(seq=sa.Integer, hash=sa.String(64), version=sa.Integer, in_force=sa.String(64), salt=sa.String(64)),
        sa.CheckConstraint("id = 1", name="ledger_head_one"),
    )
    empty = hashlib.sha256(b"[]").hexdigest()
    first = {"id": 1, "seq": 0, "hash": "0" * 64, "version": 0, "in_force": empty, "salt": secrets.token_hex(16)}
    op.bulk_insert(head, [first])
    op.create_table(
        "ledger_events",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        *_columns(at=sa.String(32), actor=sa.Text, action=sa.String(64)),
        sa.Column("about", sa.String(32)),
        *_columns(details=sa.Text, version=sa.Integer, in_force=sa.String(64)),
        sa.Column("row_digest", sa.String(64)),
        *_columns(previous=sa.String(64), hash=sa.String(64)),
    )
    op.create_index("ix_ledger_events_about", "ledger_events", ["about"])
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.String(32), primary_key=True),
        *_columns(seq=sa.Integer, name=sa.String(64)),
        sa.Column("tenant", sa.String(64)),
        *_columns(is_default=sa.Boolean, state=sa.String(16), requested_at=sa.String(32), requested_by=sa.Text),
        *_columns(nullable=True, starts_at=sa.String(32), expires_at=sa.String(32)),
        *_columns(nullable=True, artifact_digest=sa.String(64), fingerprint=sa.Text),
        sa.Column("request_digests", sa.Text, nullable=False),
        *_columns(nullable=True, scores=sa.Text, passed=sa.Boolean, failure=sa.Text),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'fitted', 'verified', 'active', 'suspended', 'revoked')",
            name="ledger_entries_state",
        ),
    )
    living = sa.text("state <> 'revoked'")
    op.create_index(
        "ledger_entries_name", "ledger_entries", ["name"], unique=True, sqlite_where=living, postgresql_where=living
    )
    op.create_index("ix_ledger_entries_state", "ledger_entries", ["state"])
    op.create_index("ix_ledger_entries_artifact_digest", "ledger_entries", ["artifact_digest"])
    op.create_table(
        "ledger_inputs",
        sa.Column("entry", sa.String(32), sa.ForeignKey("ledger_entries.id"), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ledger_artifacts",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("file", sa.String(128), primary_key=True),
        *_columns(sha256=sa.String(64), data=sa.LargeBinary),
    )
    op.create_table(
        "ledger_keys",
        sa.Column("id", sa.String(8), primary_key=True),
        *_columns(label=sa.Text, scope=sa.String(16)),
        sa.Column("tenant", sa.String(64)),
        *_columns(hash=sa.Text, created_at=sa.String(32), created_by=sa.Text),
        sa.Column("revoked_at", sa.String(32)),
    )
    op.create_table(
        "ledger_servers",
        sa.Column("server", sa.String(128), primary_key=True),
        *_columns(version=sa.Integer, ready=sa.Boolean, seen_at=sa.String(32)),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in POSTGRESQL_TRIGGERS if postgresql else SQLITE_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything."""
    for table in ("servers", "keys", "artifacts", "inputs", "entries", "events", "head"):
        op.drop_table(f"ledger_{table}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION ledger_events_refuse()")
