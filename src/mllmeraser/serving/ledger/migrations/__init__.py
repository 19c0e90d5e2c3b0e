"""The Alembic steps that bring a ledger's database up to date. They are part of the package."""
