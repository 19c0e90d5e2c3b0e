"""The keeper: what the ledger says is in force, or nothing is answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress

import structlog

from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.engine import Applied, Engine
from mllmeraser.serving.http.store import Store
from mllmeraser.serving.ledger import EraserSet, Ledger

APPLY_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0
REOPEN_SECONDS = 60.0
log = structlog.get_logger("mllmeraser.keeper")


class Keeper:
    """Follows the ledger from a thread of its own, and puts every change into force between two batches."""

    def __init__(self, engine: Engine, ledger: Ledger, store: Store, server: str, poll: float, stale: float) -> None:
        """``poll`` and ``stale`` in seconds; see `ServeSettings`."""
        self._engine, self._ledger, self._store = engine, ledger, store
        self.server, self._poll, self._stale = server, poll, stale
        self._change = threading.Lock()
        self._stop = threading.Event()
        self._in_force: EraserSet | None = None
        self._seen = float("-inf")
        self._fault: str | None = "no set of erasers is in force yet"
        self._beat = float("-inf")
        self._pause, self._next = poll, float("-inf")
        self._thread = threading.Thread(target=self._follow, name="keeper", daemon=True)

    def start(self) -> None:
        """Put the ledger's set into force, then follow it.

        Raises:
            MLLMEraserError: That cannot be done; the server must not start.
        """
        self.sync()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @property
    def version(self) -> int | None:
        """Version in force; None before the first."""
        return None if self._in_force is None else self._in_force.version

    @property
    def current(self) -> EraserSet | None:
        """The set in force."""
        return self._in_force

    def fault(self) -> str | None:
        """Why nothing may be answered now; None if all is well."""
        if self._fault is not None:
            return self._fault
        if time.monotonic() - self._seen > self._stale:
            return "the ledger cannot be reached, so what has to be forgotten is not known"
        return self._engine.status().closed

    def sync(self) -> int:
        """Put what the ledger says now into force; returns the version once it is.

        Raises:
            MLLMEraserError: The ledger cannot be read, or an eraser cannot be put into force. From then on nothing is
                answered, until it can.
        """
        with self._change:
            asked = time.monotonic()
            wanted = self._ledger.active_set()  # a ledger that is away for a moment is borne for `stale` seconds
            if self._fault or wanted != self._in_force or self._engine.status().closed:
                self._apply(wanted)
            self._seen, self._fault = max(self._seen, asked), None
            return wanted.version

    def _apply(self, wanted: EraserSet) -> None:
        try:
            erasers = self._store.load_all(wanted.erasers)
            self._wait(self._engine.apply(wanted.version, erasers, view=wanted))
        except Exception as error:
            self._fault = f"the erasers of version {wanted.version} cannot be put into force: {_reason(error)}"
            raise
        self._in_force = wanted
        log.info("erasers in force", version=wanted.version, digest=wanted.digest, erasers=len(erasers))

    def _wait(self, applied: Future[Applied]) -> None:
        """Until a set is in force. A batch may have to end first; meanwhile the ledger is still looked at."""
        end = time.monotonic() + APPLY_SECONDS
        while not wait([applied], timeout=self._poll).done and time.monotonic() < end:
            asked = time.monotonic()
            with suppress(MLLMEraserError):
                self._ledger.standing()
                self._seen = asked
        applied.result(timeout=0)

    def _follow(self) -> None:
        while not self._stop.wait(self._poll):
            self._guarded(self._step)

    def _step(self) -> None:
        self._ledger.tick()
        asked = time.monotonic()
        if self._fault or self._ledger.standing() != self._standing() or self._reopens(asked):
            self.sync()
        else:
            self._seen = asked
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._ledger.heartbeat(self.server, self.version or 0, ready=self.fault() is None)
            self._beat = time.monotonic()

    def _standing(self) -> tuple[int, str] | None:
        return None if self._in_force is None else (self._in_force.version, self._in_force.digest)

    def _reopens(self, now: float) -> bool:
        """Whether an engine that closed itself is to be given its erasers again: at once, then less and less often."""
        if self._engine.status().closed is None:
            self._pause, self._next = self._poll, now
            return False
        if now < self._next:
            return False
        self._pause, self._next = min(2 * self._pause, REOPEN_SECONDS), now + self._pause
        return True

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # the thread lives on; what it could not do shows in `fault`
            log.error("keeper", reason=_reason(error))


def _reason(error: Exception) -> str:
    """What may be shown: our own messages hold no personal data."""
    return str(error) if isinstance(error, MLLMEraserError) else type(error).__name__
