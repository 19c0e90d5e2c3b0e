"""Threads, processes and killed processes lose nothing, record nothing twice, and write one chain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ledger_kit import HOUR, START, active, opened, together, verified

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import EraserSet

pytest_plugins = ["postgres_kit"]
HERE = Path(__file__).parent


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another Python that runs `code` and may import the kit."""
    setup = f"import sys; sys.path.insert(0, {str(HERE)!r}); from ledger_kit import *\n"
    return subprocess.Popen([sys.executable, "-c", setup + code, *arguments], stdout=subprocess.PIPE, text=True)


def test_threads_with_two_ledgers(database_url: str) -> None:
    """Writers and readers at once: a version always has the same set."""
    with opened(database_url) as one, opened(database_url) as two:
        seen: dict[int, set[str]] = {}
        stop = threading.Event()

        def write(ledger: Any, number: int) -> None:
            for turn in range(3):
                entry = active(ledger, f"e{number}-{turn}", number * 10 + turn)
                ledger.suspend(entry.id, by="x", reason="r")
                ledger.activate(entry.id, by="x")

        def read(ledger: Any) -> None:
            last = 0
            while not stop.is_set():
                current: EraserSet = ledger.active_set()
                assert current.version >= last
                last = current.version
                seen.setdefault(last, set()).add(current.digest)

        readers = [threading.Thread(target=read, args=(ledger,)) for ledger in (one, two)]
        for reader in readers:
            reader.start()
        ledgers = (one, two, one, two)
        raised = together(*(lambda n=n, book=book: write(book, n) for n, book in enumerate(ledgers)))
        stop.set()
        for reader in readers:
            reader.join()
        assert raised == [] and all(len(digests) == 1 for digests in seen.values())
        assert one.version() == 4 * 3 * 3 and len(two.active_set().erasers) == 12
        assert one.head() == two.head() and one.head()[0] == 4 * 3 * 6 and one.verify_chain().ok


def test_a_set_is_read_at_one_moment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in the middle of a read is seen only by the next read."""
    from mllmeraser.serving.ledger import reading

    with opened(database_url) as one, opened(database_url) as two:
        active(one, "a", 1)
        halves = reading.read_set

        def and_meanwhile(*arguments: Any) -> EraserSet:
            monkeypatch.setattr(reading, "read_set", halves)
            active(two, "b", 2)
            return halves(*arguments)

        monkeypatch.setattr(reading, "read_set", and_meanwhile)
        current = one.active_set()
        assert (current.version, [e.name for e in current.erasers]) == (1, ["a"])
        current = one.active_set()
        assert (current.version, [e.name for e in current.erasers]) == (2, ["a", "b"])


def test_one_of_two_wins(database_url: str) -> None:
    """The same step from two ledgers: done once, refused once."""
    with opened(database_url) as one, opened(database_url) as two:
        for turn in range(4):
            entry = verified(one, f"e{turn}", turn)
            raised = together(*(lambda book=book, id=entry.id: book.activate(id, by="x") for book in (one, two)))
            assert len(raised) == 1 and isinstance(raised[0], InputError), raised
            raised = together(*(lambda book=book, n=turn: book.request(f"new{n}", by="x") for book in (one, two)))
            assert len(raised) == 1 and isinstance(raised[0], InputError), raised
        assert one.version() == 4 and one.verify_chain().ok


def test_tick_from_many_sides(database_url: str) -> None:
    with opened(database_url) as one, opened(database_url) as two:
        for number in range(4):
            verified(one, f"e{number}", number, starts_at=START, expires_at=START + HOUR)
        changed: list[str] = []
        for now in (START, START + HOUR):
            raised = together(
                *(lambda book=book, now=now: changed.extend(e.name for e in book.tick(now)) for book in (one, two) * 3)
            )
            assert raised == []
        assert sorted(changed) == sorted(2 * [f"e{n}" for n in range(4)])
        assert one.version() == 8 and one.verify_chain().ok


WRITER = """
from mllmeraser.samples.errors import InputError
url, number = sys.argv[1:]
with opened(url) as ledger:
    for turn in range(4):
        active(ledger, f"e{number}-{turn}", int(number) * 100 + turn)
        try:
            ledger.request(f"shared-{turn}", by=number)
            print("won")
        except InputError:
            pass
"""


def test_processes(database_url: str) -> None:
    children = [child(WRITER, database_url, str(number)) for number in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    assert sum(output.count("won") for output in outputs) == 4
    with opened(database_url) as ledger:
        assert len(ledger.active_set().erasers) == ledger.version() == 12
        assert ledger.head()[0] == 12 * 4 + 4
        report = ledger.verify_chain()
        assert report.ok and report.events == 52


TELLER = """
import itertools
with opened(sys.argv[1]) as ledger:
    for turn in itertools.count():
        name = f"{sys.argv[2]}-{turn}"
        entry = verified(ledger, name, turn, inputs=b"x" * 50_000)
        print("verified", name, flush=True)
        ledger.activate(entry.id, by="x")
        print("active", name, flush=True)
"""


def test_killed_while_it_writes(database_url: str) -> None:
    """Every step that the process reported before the kill is stored, and the record is intact."""
    with opened(database_url) as ledger:
        for turn, lines in enumerate((1, 4, 9)):
            process = child(TELLER, database_url, f"k{turn}")
            assert process.stdout is not None
            reported = [process.stdout.readline().split() for _ in range(lines)]
            time.sleep(0.007 * turn)
            os.kill(process.pid, signal.SIGKILL)
            reported += [line.split() for line in process.stdout.read().splitlines()]
            assert process.wait(timeout=30) == -signal.SIGKILL and all(len(line) == 2 for line in reported)
            process.stdout.close()
            for state, name in reported:
                assert ledger.get(name).state in (state, "active"), (state, name)
            report = ledger.verify_chain()
            assert report.ok, report
            assert len(ledger.active_set().erasers) == ledger.version()
            ledger.audit("after-the-kill", by="x", details={})  # no lock is left behind
        assert all(ledger.inputs(e.id) is None for e in ledger.list() if e.state not in ("requested", "fitted"))


OPENER = """
print("go", flush=True)
with opened(sys.argv[1]) as ledger:
    ledger.audit("opened", by="x", details={})
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03])
def test_killed_while_it_migrates(database_url: str, delay_s: float) -> None:
    process = child(OPENER, database_url)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(delay_s)
    process.kill()
    process.communicate(timeout=30)
    with opened(database_url) as ledger:
        ledger.audit("opened", by="x", details={})
        assert ledger.verify_chain().ok and ledger.head()[0] in (1, 2)
