"""LedgerSync with a ledger and an engine that behave badly."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from server_kit import wait_for

from mllmeraser.serving.http.sync import LedgerSync
from mllmeraser.serving.ledger import ActiveEraser, EraserSet

POLL, STALE = 0.02, 0.2
ONE = ActiveEraser("1", "one", None, True, "a" * 64, "fp")
TWO = ActiveEraser("2", "two", None, True, "b" * 64, "fp")


class StubLedger:
    def __init__(self) -> None:
        self.set, self.asked = EraserSet(7, (ONE,)), 0

    def active_set(self) -> EraserSet:
        return self.set

    def standing(self) -> tuple[int, str]:
        self.asked += 1
        return self.set.version, self.set.digest

    def tick(self) -> None: ...

    def heartbeat(self, *_: Any, **__: Any) -> None: ...


class StubEngine:
    """Puts a set into force as soon as it is ``free``; ``closed`` says why nothing is answered."""

    def __init__(self) -> None:
        self.closed, self.applied, self.free = None, [], threading.Event()  # type: ignore[var-annotated]
        self.free.set()

    def apply(self, version: int, erasers: Any, view: Any = None) -> Future[Any]:
        future: Future[Any] = Future()

        def done() -> None:
            assert self.free.wait(60)
            self.applied.append((version, sorted(erasers)))
            future.set_result(None)

        threading.Thread(target=done).start()
        return future

    def status(self) -> Any:
        return SimpleNamespace(closed=self.closed)


@pytest.fixture
def ledger() -> StubLedger:
    return StubLedger()


@pytest.fixture
def engine() -> StubEngine:
    return StubEngine()


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("mllmeraser.serving.http.sync.time", found)
    return found


@pytest.fixture
def sync(ledger: StubLedger, engine: StubEngine, clock: Clock) -> LedgerSync:
    store = SimpleNamespace(load_all=lambda entries: {entry.name: object() for entry in entries})
    made = LedgerSync(engine, ledger, store, "s", POLL, STALE)  # type: ignore[arg-type]
    made.update()
    assert made.fault() is None
    return made


def test_another_set_of_the_same_version_is_put_into_force(
    sync: LedgerSync, ledger: StubLedger, engine: StubEngine
) -> None:
    """After a backup was restored a version may come twice."""
    ledger.set = EraserSet(7, (TWO,))
    sync._step()
    assert engine.applied == [(7, ["one"]), (7, ["two"])] and sync.fault() is None


def test_a_change_that_waits_for_a_batch_is_no_lost_ledger(
    sync: LedgerSync, ledger: StubLedger, engine: StubEngine, clock: Clock
) -> None:
    ledger.set = EraserSet(8, (TWO,))
    engine.free.clear()
    change = threading.Thread(target=sync.update)
    change.start()
    for _ in range(3):
        clock.now += 0.9 * STALE
        after = ledger.asked + 3  # one that began before the clock was set, one that began after it, and its end
        wait_for(lambda after=after: ledger.asked >= after)
        assert change.is_alive() and sync.fault() is None
    engine.free.set()
    change.join()
    assert sync.version == 8


def test_a_ledger_that_goes_away_during_a_change_is_noticed(
    sync: LedgerSync, ledger: StubLedger, engine: StubEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mllmeraser.serving.ledger import LedgerError

    def away() -> tuple[int, str]:
        raise LedgerError("away")

    ledger.set = EraserSet(8, (TWO,))
    engine.free.clear()
    monkeypatch.setattr(ledger, "standing", away)
    change = threading.Thread(target=sync.update)
    change.start()
    clock.now += 2 * STALE
    assert change.is_alive() and "cannot be reached" in str(sync.fault())
    engine.free.set()
    change.join()


def test_an_engine_that_closed_itself_gets_its_erasers_again(
    sync: LedgerSync, engine: StubEngine, clock: Clock
) -> None:
    engine.closed = "not seen to act"
    for _ in range(3):
        sync._step()
    assert len(engine.applied) == 2, "at once, and then not at every look"
    clock.now += 2 * POLL
    sync._step()
    assert len(engine.applied) == 3
    engine.closed = None
    sync._step()
    assert len(engine.applied) == 3 and sync.fault() is None


def test_a_change_while_the_engine_is_closed_is_in_force_only_once_it_is_applied(
    sync: LedgerSync, engine: StubEngine
) -> None:
    engine.closed = "not seen to act"
    sync.update()
    assert len(engine.applied) == 2
