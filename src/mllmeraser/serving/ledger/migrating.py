"""Bringing a database to the revision that this package works with, and back to nothing."""

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
MIGRATION_LOCK = 0x6C6564676572  # "ledger": two servers that start at once migrate one after the other


def newest() -> str:
    """The revision that this package works with."""
    return str(ScriptDirectory(FOLDER).get_current_head())


def revision_of(connection: Connection) -> str | None:
    """The revision of a database; None where no ledger is."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def check_revision(database: Database) -> bool:
    """Whether the database is at the revision that this package works with; False if it is older or empty.

    Raises:
        LedgerError: If a newer package made it.
    """
    with database.reading() as connection:
        current = revision_of(connection)
    if current is None:
        return False
    _known(database, current)
    return current == newest()


def _known(database: Database, current: str) -> None:
    try:
        ScriptDirectory(FOLDER).get_revision(current)
    except (CommandError, ResolutionError):
        raise LedgerError(
            f"{database.shown}: made by a newer mllmeraser (revision {current}): upgrade mllmeraser"
        ) from None


def migrate(database: Database, revision: str = "head") -> None:
    """Bring a database up to `revision`, or down to it ("base" drops everything); in one transaction.

    Raises:
        LedgerError: If a newer package made it, or a step failed; then nothing was changed.
    """
    with database.writing() as connection:
        if database.postgresql:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        current = revision_of(connection)
        if current is not None:
            _known(database, current)
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
