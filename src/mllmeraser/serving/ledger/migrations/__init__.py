"""The steps by which Alembic brings a ledger's database up to date; written in Python, shipped in the package."""
