"""One database, SQLite or PostgreSQL: how it is reached, how transactions begin, how its errors are told."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger.errors import LedgerError, NameTakenError

BUSY = "the ledger is busy: another process has held it for too long; try again"
FULL = "the ledger's disk is full: nothing was changed; make room and try again"
LOST = "the ledger's database cannot be reached"


def parse_url(url: str) -> URL:
    """The address of a database; a plain path is a file of SQLite.

    Raises:
        InputError: If it is no address, or of a database that no ledger lives in.
    """
    if "://" not in url:
        return _file(URL.create("sqlite", database=url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError("the ledger's address is no database URL: use sqlite:///FILE or postgresql://...") from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        return _file(parsed)
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise InputError(f"a ledger cannot live in {kind}: use sqlite:///FILE or postgresql://...")


def _file(url: URL) -> URL:
    if not url.database or url.database.startswith((":memory:", "file:")) or url.query:
        raise InputError("a ledger needs a file that stays: sqlite:///FILE")
    return url.set(drivername="sqlite+pysqlite")


class Database:
    """Connections, read transactions that see one moment, and write transactions one after the other."""

    def __init__(self, url: str, *, timeout_s: float = 30.0, create: bool = True) -> None:
        """Prepare to use the database at `url`; a missing file is made, readable by its owner only.

        Args:
            timeout_s: How long to wait for another writer.
            create: Whether a file of SQLite may be made.

        Raises:
            InputError: If the address cannot be used.
            LedgerError: If there is no such file, or it cannot be made.
        """
        self.url = parse_url(url)
        self.postgresql = self.url.get_backend_name() == "postgresql"
        self.shown = self.url.set(drivername=self.url.get_backend_name()).render_as_string(hide_password=True)
        self._timeout = timeout_s
        self._writer = threading.Lock()  # threads wait here, not in the polling of SQLite
        self._closed = False
        if not self.postgresql:
            _prepare_file(Path(str(self.url.database)), create=create)
        self.engine = self._engine()

    def _engine(self) -> Engine:
        # parameters stay out of messages: among them are packed requests
        options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": self._timeout}
        if self.postgresql:
            return create_engine(
                self.url, **options, pool_pre_ping=True, connect_args={"connect_timeout": 5, "client_encoding": "utf8"}
            )
        engine = create_engine(self.url, **options, connect_args={"timeout": self._timeout})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the database as it was at one moment.

        Raises:
            LedgerError: If the database cannot be read.
        """
        with self._translated(), self._connect() as connection:
            if self.postgresql:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that changes the database: all of it is stored, or nothing.

        On PostgreSQL writers are put in order by locking the row of the head, which is the first thing that
        `Change` does; on SQLite there is one writer at a time anyway.

        Raises:
            LedgerError: If it cannot be stored.
        """
        with self._translated(), self._alone(), self._connect() as connection:
            connection = connection.execution_options(ledger_writes=True)
            if self.postgresql:  # who waited for the head has to see it as the one before left it
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                if self.postgresql:
                    connection.execute(text(f"SET LOCAL lock_timeout = {int(self._timeout * 1000)}"))
                yield connection

    def shrink(self) -> None:
        """Take erased bytes out of SQLite's journal too, if nobody reads; PostgreSQL's autovacuum comes by itself."""
        if self.postgresql:
            return
        try:
            with self.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute("PRAGMA busy_timeout = 100")  # a long reading does not hold up the change
                try:
                    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    driver.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
        except (SQLAlchemyError, sqlite3.Error):
            pass  # the next one will; the change itself is stored

    def close(self) -> None:
        """Close every connection; nothing can be asked afterwards."""
        self._closed = True
        self.engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._writer.acquire(timeout=self._timeout):
            raise LedgerError(BUSY)
        try:
            yield
        finally:
            self._writer.release()

    def _connect(self) -> Connection:
        if self._closed:
            raise LedgerError("the ledger is closed")
        return self.engine.connect()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            # not chained: what the driver says may quote a row
            raise translate(error, self.shown) from None


def translate(error: Exception, shown: str) -> LedgerError:
    """An error of the database as one of ours; `shown` is its address without the password."""
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    said = (str(cause).splitlines() or [type(cause).__name__])[0]
    state = getattr(cause, "sqlstate", None)
    if isinstance(error, IntegrityError) and ("ledger_entries_name" in said or "ledger_entries.name" in said):
        return NameTakenError("another entry has this name")
    if state == "53100" or "database or disk is full" in said:
        return LedgerError(FULL)
    if state == "55P03" or "database is locked" in said:
        return LedgerError(BUSY)
    if "unable to open database file" in said or "not a database" in said:
        return LedgerError(f"{shown}: cannot be opened as a ledger ({said})")
    if isinstance(error, DBAPIError) and (error.connection_invalidated or (hasattr(cause, "sqlstate") and not state)):
        return LedgerError(f"{LOST}: {shown} ({said.rpartition('failed: ')[2]})")
    if state is not None and state[:2] in ("08", "28", "3D", "53", "57"):
        return LedgerError(f"{LOST}: {shown} ({said})")
    if state == "42P01" or "no such table" in said:
        return LedgerError(f"{shown}: there is no ledger in this database")
    return LedgerError(f"{shown}: the ledger's database refused ({said})")


def _prepare_file(path: Path, *, create: bool) -> None:
    if path.is_file():
        return
    if not create:
        raise LedgerError(f"{path}: there is no ledger; 'mllmeraser ledger add' makes one")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise LedgerError(f"{path}: a ledger cannot be made here ({error.strerror})") from None


def _prepare_sqlite(driver: sqlite3.Connection, _: Any) -> None:
    driver.isolation_level = None  # transactions begin in `_begin_sqlite`, and only there
    for pragma in ("foreign_keys = ON", "secure_delete = ON", "synchronous = FULL"):
        driver.execute(f"PRAGMA {pragma}")
    # Readers do not wait for the writer. SQLite does not wait for its turn to change the mode, so this does.
    for _attempt in range(100):
        try:
            if driver.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        time.sleep(0.05)
    raise sqlite3.OperationalError("database is locked")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("ledger_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
