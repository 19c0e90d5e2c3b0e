"""The Alembic environment. It uses the connection and the transaction that `migrating` opened."""

from __future__ import annotations

from alembic import context

from mllmeraser.serving.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,  # for SQLite too, because `database` begins its transactions itself
)
context.run_migrations()
