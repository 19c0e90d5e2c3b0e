"""Migrations of a database to a revision."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text

from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.errors import LedgerError

FOLDER = Path(__file__).parent / "migrations"
VERSION_TABLE = "ledger_revision"
MIGRATION_LOCK = 0x6C6564676572  # "ledger": makes servers that start at once migrate one after the other


def newest() -> str:
    """The revision that this package works with."""
    return str(ScriptDirectory(FOLDER).get_current_head())


def revision_of(connection: Connection) -> str | None:
    """The revision of a database; None if it holds no ledger."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def check_revision(database: Database) -> bool:
    """Whether the database is at the newest revision; False if it is older or empty.

    Raises:
        LedgerError: If it comes from a newer package.
    """
    with database.reading() as connection:
        current = revision_of(connection)
    _check_known(database, current)
    return current == newest()


def holds_ledger(database: Database) -> bool:
    """Whether there is a ledger in the database, of any revision."""
    with database.reading() as connection:
        return revision_of(connection) is not None


def _check_known(database: Database, current: str | None) -> None:
    try:
        if current is not None:
            ScriptDirectory(FOLDER).get_revision(current)
    except (CommandError, ResolutionError):
        raise LedgerError(
            f"{database.shown}: made by a newer mllmeraser (revision {current}): upgrade mllmeraser"
        ) from None


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrade or downgrade a database to `revision` in one transaction. "base" drops everything.

    Raises:
        LedgerError: If the database comes from a newer package, or a step failed. Then nothing was changed.
    """
    with database.writing() as connection:
        if database.postgresql:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        current = revision_of(connection)
        _check_known(database, current)
        config = Config()
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        try:
            if revision == "head" or current is None:
                command.upgrade(config, revision)
            else:
                command.downgrade(config, revision)
        except CommandError as error:
            raise LedgerError(f"{database.shown}: cannot be brought to revision {revision} ({error})") from None
