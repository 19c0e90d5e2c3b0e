"""Leases: which server fits or verifies an entry now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table of leases."""
    op.create_table(
        "ledger_leases",
        sa.Column("entry", sa.String(32), sa.ForeignKey("ledger_entries.id"), primary_key=True),
        sa.Column("server", sa.String(128), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("ledger_leases")
