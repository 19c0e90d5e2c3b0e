"""The first tables, and the triggers that keep events as they were written."""

from __future__ import annotations

import hashlib
import secrets

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
    # INSERT OR REPLACE deletes without asking the trigger above
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


def upgrade() -> None:
    """Make everything, with a head that stands before the first event."""
    _record()
    _entries()
    _around()
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in POSTGRESQL_TRIGGERS if postgresql else SQLITE_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything."""
    for table in ("servers", "keys", "artifacts", "inputs", "entries", "events", "head"):
        op.drop_table(f"ledger_{table}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION ledger_events_refuse()")


def _record() -> None:
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("in_force", sa.String(64), nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.CheckConstraint("id = 1", name="ledger_head_one"),
    )
    nothing = hashlib.sha256(b"[]").hexdigest()
    first = {"id": 1, "seq": 0, "hash": "0" * 64, "version": 0, "in_force": nothing, "salt": secrets.token_hex(16)}
    op.bulk_insert(head, [first])
    op.create_table(
        "ledger_events",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("about", sa.String(32), nullable=True),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("in_force", sa.String(64), nullable=False),
        sa.Column("row_digest", sa.String(64), nullable=True),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_ledger_events_about", "ledger_events", ["about"])


def _entries() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=True),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested_at", sa.String(32), nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("starts_at", sa.String(32), nullable=True),
        sa.Column("expires_at", sa.String(32), nullable=True),
        sa.Column("artifact_digest", sa.String(64), nullable=True),
        sa.Column("fingerprint", sa.Text, nullable=True),
        sa.Column("request_digests", sa.Text, nullable=False),
        sa.Column("scores", sa.Text, nullable=True),
        sa.Column("passed", sa.Boolean, nullable=True),
        sa.Column("failure", sa.Text, nullable=True),
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


def _around() -> None:
    op.create_table(
        "ledger_inputs",
        sa.Column("entry", sa.String(32), sa.ForeignKey("ledger_entries.id"), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ledger_artifacts",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("file", sa.String(128), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ledger_keys",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=True),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.String(32), nullable=True),
    )
    op.create_table(
        "ledger_servers",
        sa.Column("server", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.Column("seen_at", sa.String(32), nullable=False),
    )
