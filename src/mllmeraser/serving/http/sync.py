"""Keep the engine in sync with the ledger: either its eraser set is in force, or the server refuses all requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

import structlog

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.samples.errors import ArtifactError, MLLMEraserError
from mllmeraser.serving.engine import Applied, Engine
from mllmeraser.serving.ledger import ActiveEraser, EraserSet, Ledger
from mllmeraser.serving.ledger.artifacts import checksums
from mllmeraser.serving.ledger.erasers import eraser_of

APPLY_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0
REOPEN_SECONDS = 60.0
log = structlog.get_logger("mllmeraser.sync")


class Trouble(Enum):
    """Kinds of faults. Clients learn the kind only: details may name erasers of any tenant."""

    STARTING = "the server is starting"
    LEDGER_AWAY = "the ledger cannot be reached"
    NOT_IN_FORCE = "the erasers cannot be put into force"
    ENGINE_CLOSED = "the engine is closed"


class Fault(NamedTuple):
    """Why the server refuses all requests; ``details`` are for admins."""

    kind: Trouble
    details: str


class Store:
    """Erasers by digest, each read and checked once.

    The digest covers the tensors only. Once it is unused, the ledger may store the same tensors with other settings
    under it. So a cached eraser is valid only while the checksums of all its files match.
    """

    def __init__(self, ledger: Ledger, fingerprint: str) -> None:
        """``fingerprint`` of the model that every eraser must be made for."""
        self._ledger, self._fingerprint = ledger, fingerprint
        self._cache: dict[str, tuple[Mapping[str, str], Eraser]] = {}

    def load(self, digest: str) -> Eraser:
        """The eraser of a digest. Raises `ArtifactError` if it is missing, corrupt, or made for another model."""
        sums, eraser = self._cache.get(digest, (None, None))
        if eraser is None or sums != self._ledger.checksums(digest):
            files = self._ledger.artifact(digest)
            eraser = eraser_of(files)
            if eraser.digest() != digest:
                raise ArtifactError("an artifact is not what the ledger says it is: fit it again")
            if eraser.config.fingerprint != self._fingerprint:
                raise ArtifactError("an eraser is made for another model than this server's")
            self._cache[digest] = (checksums(files), eraser)
        return eraser

    def load_all(self, entries: Iterable[ActiveEraser]) -> dict[str, Eraser]:
        """Erasers by name; all others leave the cache. Raises as `load`."""
        digests = {entry.name: entry.artifact_digest for entry in entries}
        erasers = {name: self.load(digest) for name, digest in digests.items()}
        self._cache = {digest: self._cache[digest] for digest in set(digests.values())}
        return erasers


class LedgerSync:
    """Follows the ledger in its own thread, and puts every change into force between two batches.

    `current` is the set in force; None before the first.
    """

    def __init__(self, engine: Engine, ledger: Ledger, store: Store, server: str, poll: float, stale: float) -> None:
        """``poll`` and ``stale`` in seconds; see `ServeSettings`."""
        self._engine, self._ledger, self._store = engine, ledger, store
        self._server, self._poll, self._stale = server, poll, stale
        self._change = threading.Lock()
        self._stop = threading.Event()
        self.current: EraserSet | None = None
        self._seen = float("-inf")
        self._failure: str | None = "no set of erasers is in force yet"
        self._beat = float("-inf")
        self._pause, self._next = poll, float("-inf")
        self._thread = threading.Thread(target=self._follow, name="ledger sync", daemon=True)

    def start(self) -> None:
        """Put the ledger's set into force, then follow the ledger. If it raises, the server must not start."""
        self.update()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        with suppress(MLLMEraserError):  # it is shown until it is forgotten
            self._ledger.heartbeat(self._server, self.version or 0, ready=False)

    @property
    def version(self) -> int | None:
        """Version of the set in force; None before the first."""
        return None if self.current is None else self.current.version

    def acts(self, id: str) -> bool:
        """Whether the eraser of an entry is in force on this server."""
        return self.current is not None and any(eraser.id == id for eraser in self.current.erasers)

    def fault(self) -> Fault | None:
        """Why the server must refuse all requests now; None if it may answer."""
        if self._failure is not None:
            return Fault(Trouble.STARTING if self.current is None else Trouble.NOT_IN_FORCE, self._failure)
        if time.monotonic() - self._seen > self._stale:
            return Fault(Trouble.LEDGER_AWAY, f"{Trouble.LEDGER_AWAY.value}, so the required erasers are not known")
        closed = self._engine.status().closed
        return None if closed is None else Fault(Trouble.ENGINE_CLOSED, closed)

    def update(self) -> int:
        """Put the ledger's current set into force, and return its version.

        Raises:
            MLLMEraserError: The ledger cannot be read, or an eraser cannot be put into force. In the second case the
                server refuses all requests until a later update succeeds.
        """
        with self._change:
            asked = time.monotonic()
            wanted = self._ledger.active_set()  # an unreachable ledger is tolerated for `stale` seconds
            if self._failure or wanted != self.current or self._engine.status().closed:
                self._apply(wanted)
            self._seen, self._failure = max(self._seen, asked), None
            return wanted.version

    def _apply(self, wanted: EraserSet) -> None:
        try:
            erasers = self._store.load_all(wanted.erasers)
            self._wait(self._engine.apply(wanted.version, erasers, view=wanted))
        except Exception as error:
            self._failure = f"the erasers of version {wanted.version} cannot be put into force: {_reason(error)}"
            raise
        self.current = wanted
        log.info("erasers in force", version=wanted.version, digest=wanted.digest, erasers=len(erasers))

    def _wait(self, applied: Future[Applied]) -> None:
        """Wait until a set is in force. A batch may have to end first, so the ledger is polled meanwhile."""
        end = time.monotonic() + APPLY_SECONDS
        while not wait([applied], timeout=self._poll).done and time.monotonic() < end:
            asked = time.monotonic()
            with suppress(MLLMEraserError):
                self._ledger.standing()
                self._seen = asked
        applied.result(timeout=0)

    def _follow(self) -> None:
        while not self._stop.wait(self._poll):
            try:
                self._step()
            except Exception as error:  # the thread continues; `fault` shows the problem
                log.error("ledger sync failed", reason=_reason(error))

    def _step(self) -> None:
        self._ledger.tick()
        asked = time.monotonic()
        current = None if self.current is None else (self.current.version, self.current.digest)
        if self._failure or self._ledger.standing() != current or self._reopens(asked):
            self.update()
        else:
            self._seen = asked
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._ledger.heartbeat(self._server, self.version or 0, ready=self.fault() is None)
            self._beat = time.monotonic()

    def _reopens(self, now: float) -> bool:
        """Whether to apply the set again to an engine that closed itself: at once, then at growing intervals."""
        if self._engine.status().closed is None:
            self._pause, self._next = self._poll, now
            return False
        if now < self._next:
            return False
        self._pause, self._next = min(2 * self._pause, REOPEN_SECONDS), now + self._pause
        return True


def _reason(error: Exception) -> str:
    """Return what may be shown. The package's own messages name eraser labels and files, but quote no request."""
    return str(error) if isinstance(error, MLLMEraserError) else type(error).__name__
