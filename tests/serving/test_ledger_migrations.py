"""Migrations from an empty database to the newest tables and back, on both databases, whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger_kit import active, opened, raw, together
from sqlalchemy import inspect

from mllmeraser.serving.ledger import Ledger, LedgerError
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.migrating import VERSION_TABLE, migrate, newest, revision_of
from mllmeraser.serving.ledger.tables import metadata

pytest_plugins = ["postgres_kit"]


def test_up_and_down_and_up(database_url: str) -> None:
    with opened(database_url) as ledger:
        active(ledger, "a")
        with ledger._database.reading() as connection:
            assert revision_of(connection) == newest()
    database = Database(database_url)
    migrate(database, "base")
    with database.reading() as connection:
        assert [t for t in inspect(connection).get_table_names() if t != VERSION_TABLE] == []
        assert revision_of(connection) is None
    if database.postgresql:
        with raw(database_url) as run:
            assert run("SELECT count(*) FROM pg_proc WHERE proname LIKE 'ledger%'").scalar() == 0
    migrate(database)
    migrate(database)
    database.close()
    with opened(database_url, migrate=False) as ledger:
        assert ledger.list() == [] and ledger.head() == (0, "0" * 64) and ledger.verify_chain().ok
        active(ledger, "a")


def test_the_migrations_make_the_tables_that_the_code_works_with(database_url: str) -> None:
    with opened(database_url) as ledger, ledger._database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


def test_constraints_hold(database_url: str) -> None:
    """The comparison above does not cover these."""
    from sqlalchemy.exc import IntegrityError

    with opened(database_url) as ledger:
        active(ledger, "a")
    for sql in (
        "UPDATE ledger_entries SET state = 'gone'",
        "UPDATE ledger_head SET id = 2",
        "INSERT INTO ledger_inputs VALUES ('missing', '')",
    ):
        if sql.startswith("INSERT") and database_url.startswith("sqlite"):
            continue  # SQLite checks foreign keys only on connections that ask for it, as ours do
        with pytest.raises(IntegrityError), raw(database_url) as run:
            run(sql)


def test_an_empty_database_is_not_used_as_it_is(database_url: str) -> None:
    with pytest.raises(LedgerError, match="migrate"):
        Ledger.open(database_url, migrate=False)
    with opened(database_url) as ledger:
        assert ledger.list() == []


def test_a_newer_ledger_is_left_alone(database_url: str) -> None:
    with opened(database_url) as ledger:
        active(ledger, "a")
    with raw(database_url) as run:
        run(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    for options in ({}, {"migrate": False}):
        with pytest.raises(LedgerError, match=r"newer mllmeraser \(revision 9999\)"):
            Ledger.open(database_url, **options)  # type: ignore[arg-type]
    with raw(database_url) as run:
        assert run("SELECT count(*) FROM ledger_entries").scalar() == 1


def test_a_step_that_fails_leaves_nothing(database_url: str) -> None:
    with raw(database_url) as run:
        run("CREATE TABLE ledger_servers (odd INTEGER)")  # the last one that is made
    with pytest.raises(LedgerError, match="exists"):
        Ledger.open(database_url)
    database = Database(database_url)
    with database.reading() as connection:
        assert [t for t in inspect(connection).get_table_names() if t != VERSION_TABLE] == ["ledger_servers"]
        assert revision_of(connection) is None
    database.close()


def test_many_open_an_empty_database_at_once(database_url: str) -> None:
    start = threading.Barrier(6)

    def run(number: int) -> None:
        start.wait()
        with opened(database_url) as ledger:
            ledger.request(f"e{number}", by="x")

    assert together(*(lambda n=n: run(n) for n in range(6))) == []
    with opened(database_url) as ledger:
        assert len(ledger.list()) == 6 and ledger.verify_chain().ok


def test_a_folder_with_a_percent_sign(tmp_path: Path) -> None:
    folder = tmp_path / "100 % mine"
    folder.mkdir()
    with opened(str(folder / "l%20.db")) as ledger:
        active(ledger, "a")
    assert (folder / "l%20.db").is_file()
