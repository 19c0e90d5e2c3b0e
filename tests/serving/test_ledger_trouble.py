"""Full disks, missing or locked databases, and other files give one line each, and change nothing."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_kit import active, artifact, opened, raw
from sqlalchemy import event, text

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import Ledger, LedgerError

pytest_plugins = ["postgres_kit"]


def limited(ledger: Ledger, pages: int) -> None:
    """Limit the SQLite file to this many pages."""
    ledger._database.engine.dispose()
    event.listen(ledger._database.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {pages}"))


def test_a_full_disk(tmp_path: Path) -> None:
    url = str(tmp_path / "ledger.db")
    with opened(url) as ledger:
        active(ledger, "a", 1)
        waiting = ledger.request("b", by="x", inputs=b"kept")
        limited(ledger, 60)
        before = (ledger.head(), ledger.list(), ledger.active_set())
        big = artifact(2)
        big["artifact"]["more"] = os.urandom(1 << 20)
        steps: list[Callable[[], object]] = [
            lambda: ledger.request("c", by="x", inputs=os.urandom(1 << 20)),
            lambda: ledger.fitted(waiting.id, by="x", **big),
            lambda: ledger.audit("note", by="x", details={"text": "x" * (1 << 20)}),
        ]
        for step in steps:
            with pytest.raises(LedgerError, match="disk is full") as refused:
                step()
            assert "\n" not in str(refused.value) and not isinstance(refused.value, InputError)
        assert (ledger.head(), ledger.list(), ledger.active_set()) == before
        assert ledger.inputs(waiting.id) == b"kept" and ledger.verify_chain().ok
        written = 0
        with pytest.raises(LedgerError, match="disk is full"):
            for _ in range(10_000):
                ledger.audit("note", by="x", details={"text": "x" * 2000})
                written += 1
        assert ledger.head()[0] == before[0][0] + written and ledger.verify_chain().ok
    with opened(url) as ledger:  # there is space again
        ledger.fitted(waiting.id, by="x", **big)
        assert ledger.artifact(big["digest"]) == big["artifact"] and ledger.verify_chain().ok


def test_a_full_disk_of_postgresql(postgres_url: str) -> None:
    """PostgreSQL's own error, in the middle of a change."""
    with opened(postgres_url) as ledger:
        active(ledger, "a")
        before = (ledger.head(), ledger.list())
        with raw(postgres_url) as run:
            run(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
            )
            run("CREATE TRIGGER full_disk BEFORE INSERT ON ledger_inputs EXECUTE FUNCTION full_disk()")
        with pytest.raises(LedgerError, match="disk is full"):
            ledger.request("b", by="x", inputs=b"secret")
        assert (ledger.head(), ledger.list()) == before and ledger.verify_chain().ok


def test_errors_do_not_quote_the_request(database_url: str) -> None:
    """Neither the message nor the traceback does."""
    with opened(database_url) as ledger, raw(database_url) as run:
        run("DROP TABLE ledger_inputs")
        run("CREATE TABLE ledger_inputs (entry TEXT, data TEXT CHECK (length(data) < 0))")
    with opened(database_url) as ledger, pytest.raises(LedgerError) as refused:
        ledger.request("b", by="x", inputs=b"Jane Doe")
    assert "Jane" not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_not_there() -> None:
    url = f"postgresql://ann:hunter2@127.0.0.1:{closed_port()}/ledger"
    with pytest.raises(LedgerError, match="cannot be reached") as refused:
        Ledger.open(url)
    assert "hunter2" not in str(refused.value) and "\n" not in str(refused.value)
    assert not isinstance(refused.value, InputError)


def test_a_database_that_is_not_there(postgres_url: str) -> None:
    with pytest.raises(LedgerError, match="does not exist"):
        Ledger.open(postgres_url + "_not")


def hang_up(url: str) -> None:
    with raw(url) as run:
        run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_cut_connections_are_reopened(postgres_url: str) -> None:
    with opened(postgres_url) as ledger:
        active(ledger, "a")
        hang_up(postgres_url)
        assert ledger.version() == 1
        hang_up(postgres_url)
        ledger.suspend("a", by="x", reason="r")
        assert ledger.verify_chain().ok


def test_a_connection_cut_in_the_middle_of_a_change(postgres_url: str) -> None:
    with opened(postgres_url) as ledger:
        active(ledger, "a")
        before = ledger.head()
        with pytest.raises(LedgerError, match="cannot be reached"), ledger._changing("x") as change:
            change.record("note", {})
            hang_up(postgres_url)
            change.record("note", {})
        assert ledger.head() == before and ledger.verify_chain().ok


def test_a_writer_that_does_not_end(database_url: str) -> None:
    """Readers continue; another writer gives up after its timeout."""
    with opened(database_url, timeout_s=0.3) as one, opened(database_url, timeout_s=0.3) as two:
        active(one, "a")
        with one._changing("x") as change:
            change.record("note", {})
            assert two.version() == 1 and two.active_set().version == 1 and two.head()[0] == 4
            for ledger in (two, one):  # in another process, and in this one
                refused: list[BaseException] = []

                def write(ledger: Ledger = ledger, refused: list[BaseException] = refused) -> None:
                    try:
                        ledger.suspend("a", by="x", reason="r")
                    except BaseException as error:
                        refused.append(error)

                thread = threading.Thread(target=write)
                thread.start()
                thread.join()
                assert [type(e) for e in refused] == [LedgerError] and "busy" in str(refused[0])
        assert one.head()[0] == 5 and two.suspend("a", by="x", reason="r").state == "suspended"


def test_a_change_that_raises_leaves_nothing(database_url: str) -> None:
    with opened(database_url) as ledger:
        before = ledger.head()
        with pytest.raises(KeyboardInterrupt), ledger._changing("x") as change:
            change.record("note", {})
            raise KeyboardInterrupt
        assert ledger.head() == before and ledger.audit("note", by="x", details={}).seq == 1


def test_a_closed_ledger(database_url: str) -> None:
    ledger = opened(database_url)
    ledger.close()
    ledger.close()
    for ask in (ledger.version, ledger.active_set, ledger.list, ledger.verify_chain, ledger.tick):
        with pytest.raises(LedgerError, match="closed"):
            ask()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://host/db", "mysql"),
        ("sqlite://", "a file"),
        ("sqlite:///:memory:", "a file"),
        (":memory:", "a file"),
        ("", "a file"),
        ("sqlite:///a.db?mode=ro", "a file"),
        ("postgresql://host:port/db", "no database URL"),
        ("://", "no database URL"),
    ],
)
def test_addresses_that_cannot_be(url: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        Ledger.open(url)


def test_files_that_are_no_ledgers(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"This is no database, but it is long enough to be looked at. " * 50)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE things (a)")
    other.close()
    bad = {"text.db": "not a database", "no/such/ledger.db": "cannot be made", "": "cannot"}
    for name, word in bad.items():
        with pytest.raises(LedgerError, match=word):
            Ledger.open(str(tmp_path / name))
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger.open(str(tmp_path / "nothing.db"), create=False)
    assert not (tmp_path / "nothing.db").exists()
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger.open(str(tmp_path / "other.db"), migrate=False)


def test_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with opened(str(file)) as ledger:
        for number in range(30):
            ledger.audit("note", by="x", details={"n": number, "text": "x" * 500})
    data = bytearray(file.read_bytes())
    data[4096 * 4 :] = b"\xff" * len(data[4096 * 4 :])
    file.write_bytes(data)
    with pytest.raises(LedgerError), opened(str(file)) as ledger:
        ledger.verify_chain()
        ledger.events()
        ledger.active_set()


def test_tables_dropped_under_a_ledger(database_url: str) -> None:
    with opened(database_url) as ledger:
        active(ledger, "a")
        with raw(database_url) as run:
            run("DROP TABLE ledger_inputs")
            run("DROP TABLE ledger_leases")
            run("DROP TABLE ledger_notes")
            run("DROP TABLE ledger_entries")
        for ask in (ledger.active_set, ledger.list, ledger.tick, ledger.verify_chain):
            with pytest.raises(LedgerError, match="there is no ledger|no such table"):
                ask()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    with opened(str(tmp_path / "ledger.db")) as ledger:
        active(ledger, "a")
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("end", ["verified", "forced", "revoked"])
def test_erased_inputs_are_in_no_file_any_more(tmp_path: Path, end: str) -> None:
    secret = b"Jane Doe, 12 Elm Street, " * 400
    with opened(str(tmp_path / "ledger.db")) as ledger:
        entry = ledger.request("e", by="x", inputs=secret)
        assert any(b"Jane Doe" in file.read_bytes() for file in tmp_path.iterdir())
        if end != "revoked":
            ledger.fitted(entry.id, by="x", **artifact())
            assert ledger.inputs(entry.id) == secret, "verification needs them"
        if end == "verified":
            ledger.verified(entry.id, by="x", scores={}, passed=True)
        elif end == "forced":
            ledger.activate(entry.id, by="x", force="r")
        else:
            ledger.revoke(entry.id, by="x", reason="r")
        for file in tmp_path.iterdir():
            assert b"Jane Doe" not in file.read_bytes(), file.name
        assert ledger.inputs(entry.id) is None


def test_a_long_reading_does_not_hold_up_a_change(tmp_path: Path) -> None:
    with opened(str(tmp_path / "ledger.db")) as ledger:
        entry = ledger.request("e", by="x", inputs=b"x" * 9000)
        with ledger._database.reading() as connection:
            connection.execute(text("SELECT * FROM ledger_events")).all()
            ledger.fitted(entry.id, by="x", **artifact())  # raises `LedgerError` if it cannot have its turn
        with ledger._database.reading() as connection:
            assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000


def test_changes_are_on_disk_before_they_are_reported(tmp_path: Path) -> None:
    with opened(str(tmp_path / "ledger.db")) as ledger, ledger._database.reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
