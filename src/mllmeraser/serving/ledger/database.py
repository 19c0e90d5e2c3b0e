"""Access to one database, SQLite or PostgreSQL: its address, its transactions and its errors."""

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
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger.errors import LedgerError, NoLedgerError

BUSY = "the ledger is busy: another process has held it for too long; try again"
FULL = "the ledger's disk is full: nothing was changed; make room and try again"
LOST = "the ledger's database cannot be reached"

SQLITE_FULL = 13
SQLITE_HELD = (5, 6)  # busy, locked
SQLITE_NO_LEDGER = (14, 26)  # cannot be opened, not a database
SQLITE_WORDS = {
    "database or disk is full": 13,
    "database is locked": 5,
    "database table is locked": 6,
    "unable to open database file": 14,
    "not a database": 26,
}


def parse_url(url: str) -> URL:
    """Parse the address of a database. A plain path is an SQLite file.

    Raises:
        InputError: If it is not an address, or names an unsupported database.
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
    raise InputError(f"{kind} is not supported for a ledger: use sqlite:///FILE or postgresql://...")


def _file(url: URL) -> URL:
    if not url.database or url.database.startswith((":memory:", "file:")) or url.query:
        raise InputError("a ledger needs a file on disk: sqlite:///FILE")
    return url.set(drivername="sqlite+pysqlite")


class Database:
    """Connections to a database. Each read transaction sees one state; write transactions run one after another."""

    def __init__(self, url: str, *, timeout_s: float = 30.0, create: bool = True) -> None:
        """Prepare to use the database at `url`.

        Args:
            url: See `parse_url`.
            timeout_s: How long to wait for another writer.
            create: Create a missing SQLite file, readable only by its owner.

        Raises:
            InputError: If the address cannot be used.
            LedgerError: If the file is missing or cannot be created.
        """
        self.url = parse_url(url)
        self.postgresql = self.url.get_backend_name() == "postgresql"
        self.shown = self.url.set(drivername=self.url.get_backend_name()).render_as_string(hide_password=True)
        self._timeout = timeout_s
        self._writer = threading.Lock()  # threads wait here instead of polling SQLite
        self._closed = False
        if not self.postgresql:
            _prepare_file(Path(str(self.url.database)), create=create)
        self.engine = self._engine()

    def _engine(self) -> Engine:
        # parameters are hidden because packed requests are among them
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
        """A read transaction, which sees one state of the database.

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
        """A write transaction.

        In PostgreSQL, writers queue for the row of the head, which `Change` locks first. SQLite allows one writer.

        Raises:
            LedgerError: If the database cannot be written.
        """
        with self._translated(), self._alone(), self._connect() as connection:
            connection = connection.execution_options(ledger_writes=True)
            if self.postgresql:  # a writer that waited for the head has to see the changes of the writer before
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                if self.postgresql:
                    connection.execute(text(f"SET LOCAL lock_timeout = {int(self._timeout * 1000)}"))
                yield connection

    def shrink(self) -> None:
        """Remove erased bytes from SQLite's journal, unless someone is reading. PostgreSQL's autovacuum does it."""
        if self.postgresql:
            return
        try:
            with self.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute("PRAGMA busy_timeout = 100")  # do not wait for a long read
                try:
                    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    driver.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
        except (SQLAlchemyError, sqlite3.Error):
            pass  # the change itself is stored, and the next call shrinks the journal

    def close(self) -> None:
        """Close every connection. Later calls raise a LedgerError."""
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
            # not chained, because the driver's message may quote a row
            raise _translate(error, self.shown) from None


def _translate(error: Exception, shown: str) -> LedgerError:
    """Convert a database error. `shown` is the address without the password."""
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    message = (str(cause).splitlines() or [type(cause).__name__])[0]
    state = getattr(cause, "sqlstate", None)
    code = _sqlite_code(cause)
    if state == "53100" or code == SQLITE_FULL:
        return LedgerError(FULL)
    if state == "55P03" or code in SQLITE_HELD:
        return LedgerError(BUSY)
    if code in SQLITE_NO_LEDGER:
        return LedgerError(f"{shown}: cannot be opened as a ledger ({message})")
    if isinstance(error, DBAPIError) and (error.connection_invalidated or (hasattr(cause, "sqlstate") and not state)):
        return LedgerError(f"{LOST}: {shown} ({message.rpartition('failed: ')[2]})")
    if state is not None and state[:2] in ("08", "28", "3D", "53", "57"):
        return LedgerError(f"{LOST}: {shown} ({message})")
    if state == "42P01":
        return LedgerError(f"{shown}: there is no ledger in this database")
    return LedgerError(f"{shown}: the ledger's database refused ({message})")


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error, or None.

    Errors have codes since Python 3.11. Before, there is only the message; sqlite3.c fixes its words.
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF
    return next((code for words, code in SQLITE_WORDS.items() if words in str(error)), None)


def _prepare_file(path: Path, *, create: bool) -> None:
    if path.is_file():
        return
    if not create:
        raise NoLedgerError(f"{path}: there is no ledger; mllmeraser serve --init makes one")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise LedgerError(f"{path}: a ledger cannot be made here ({error.strerror})") from None


def _prepare_sqlite(driver: sqlite3.Connection, _: Any) -> None:
    driver.isolation_level = None  # only `_begin_sqlite` begins transactions
    for pragma in ("foreign_keys = ON", "secure_delete = ON", "synchronous = FULL"):
        driver.execute(f"PRAGMA {pragma}")
    # WAL lets readers go on during a write. SQLite does not wait for a lock to change the mode, so this loop does.
    for _attempt in range(100):
        try:
            if driver.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as error:
            if _sqlite_code(error) not in SQLITE_HELD:
                raise
        time.sleep(0.05)
    raise sqlite3.OperationalError("database is locked")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("ledger_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
