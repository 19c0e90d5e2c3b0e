"""Requests to forget, fitted and verified one after the other in the background."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.ledger import Entry, Ledger, TransitionError
from mllmeraser.serving.ledger.erasers import artifact_of, eraser_of
from mllmeraser.serving.packing import unpack_request
from mllmeraser.serving.verify import Thresholds, verify

WORKER = "background fit"
LONGEST = 500
"""Letters of a reason that the ledger keeps."""
NOT_KEPT = "whom to ask about is no longer kept, so it cannot be verified: request it again"
NOTHING_TO_FIT = "it came without pictures and names, so there is nothing to fit: request it again"
log = structlog.get_logger("mllmeraser.fits")


class Fitter(Protocol):
    """Makes an eraser of a request, on a model on which nothing is attached."""

    def __call__(self, model: MultimodalModel, request: Request, progress: Progress) -> Eraser:
        """The eraser."""


@dataclass(frozen=True)
class Step:
    """How far the work on a request is."""

    stage: str
    done: int
    total: int

    def to_json(self) -> dict[str, Any]:
        """For the admin."""
        return {"stage": self.stage, "done": self.done, "total": self.total}


class Fits:
    """One worker; what was begun and not finished when a server died is begun again at the next start."""

    def __init__(
        self, model: MultimodalModel, ledger: Ledger, fitter: Fitter, thresholds: Thresholds, most: int
    ) -> None:
        """``model`` is a sibling of the served one: nothing is ever attached to it but a candidate under test."""
        self._model, self._ledger, self._fitter, self._thresholds = model, ledger, fitter, thresholds
        self._most = most
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._progress: dict[str, Step] = {}
        self._thread = threading.Thread(target=self._work, name="fits", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Take up what is left over, and wait for more."""
        self._thread.start()
        for entry in self._ledger.list():
            left = entry.state in ("requested", "fitted") and entry.failure is None
            if left and self._ledger.has_inputs(entry.id):
                self.add(entry.id)

    def stop(self) -> None:
        """Take on nothing more; a fit under way is given up and begun again at the next start."""
        self._stopping.set()
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def room(self) -> None:
        """Check that another request can wait. What is left over from before a start always can.

        Raises:
            Refusal: Too many wait already.
        """
        if self._waiting.qsize() >= self._most:
            raise Refusal(429, "too many requests to forget are waiting for their fit", "busy", retry_after=60)

    def add(self, id: str) -> None:
        """Fit and verify the request of an entry when its turn comes; one that is fitted is only verified.

        Raises:
            Refusal: It waits or is being worked on already.
        """
        self._claim(id)
        self._waiting.put(id)

    def _claim(self, id: str) -> None:
        step = Step("waiting", 0, 1)
        if self._progress.setdefault(id, step) is not step:
            raise Refusal(409, "this erasure is being worked on already")

    def fit_again(self, entry: Entry, by: str) -> None:
        """Fit a request anew when its turn comes, and verify it: its fit failed, or ended with another server.

        Raises:
            Refusal: 409 where it is fitted already, came without a request, or is being worked on; 429 where too many
                wait.
        """
        if entry.state != "requested":
            raise Refusal(409, f"{entry.name} is {entry.state}: only what is not yet fitted can be fitted")
        self._again(entry, by, NOTHING_TO_FIT)

    def verify_again(self, entry: Entry, by: str) -> None:
        """Verify a fitted entry anew when its turn comes: its verification failed, or ended with another server.

        Raises:
            Refusal: 409 where it is not fitted, its request is no longer kept, or it is being worked on already; 429
                where too many wait.
        """
        if entry.state != "fitted":
            hint = "it is verified once it is fitted" if entry.state == "requested" else NOT_KEPT
            raise Refusal(409, f"{entry.name} is {entry.state}: {hint}")
        self._again(entry, by, NOT_KEPT)

    def _again(self, entry: Entry, by: str, without: str) -> None:
        if not self._ledger.has_inputs(entry.id):
            raise Refusal(409, f"{entry.name}: {without}")
        self.room()
        self._claim(entry.id)
        try:
            if entry.failure is not None:  # so that it is taken up at the next start, if this server dies over it
                self._ledger.begun_again(entry.id, by=by)
        except BaseException:
            self._progress.pop(entry.id, None)
            raise
        self._waiting.put(entry.id)

    def progress(self) -> dict[str, Step]:
        """How far each entry is that something is being done for. Ask before the ledger: what is no longer here, the
        ledger tells.
        """
        return dict(self._progress)

    def _work(self) -> None:
        while not self._stopping.is_set():
            id = self._waiting.get()
            if id is None:
                return
            try:
                self._one(id)
            except _GivenUp:
                return
            except TransitionError as error:  # another server was faster, or it was revoked meanwhile
                log.info("done elsewhere", entry=id, reason=str(error))
            except MLLMEraserError as error:
                self._failed(id, str(error))
            except Exception as error:  # noqa: BLE001 - one request must not end the worker
                log.exception("fit", entry=id)
                self._failed(id, f"internal error ({type(error).__name__})")
            finally:
                self._progress.pop(id, None)

    def _failed(self, id: str, reason: str) -> None:
        try:
            self._ledger.failed(id, by=WORKER, reason=" ".join(reason.split())[:LONGEST])
        except MLLMEraserError as error:
            log.error("fit failed and cannot be recorded", entry=id, reason=str(error))

    def _one(self, id: str) -> None:
        packed, entry = self._ledger.inputs(id), self._ledger.get(id)
        if packed is None:
            return  # revoked meanwhile, or done by another server
        request = unpack_request(packed)
        if entry.state == "requested":
            made = artifact_of(self._fitter(self._model, request, self._teller(id, "fit")))
            entry = self._ledger.fitted(
                id, by=WORKER, artifact=made.files, fingerprint=made.fingerprint, digest=made.digest
            )
        if entry.state == "fitted" and entry.artifact_digest is not None:
            eraser = eraser_of(self._ledger.artifact(entry.artifact_digest))
            tell = self._teller(id, "verify")
            result = verify(self._model, eraser, request, thresholds=self._thresholds, progress=tell)
            self._ledger.verified(id, by=WORKER, scores=result.as_dict(), passed=result.passed)

    def _teller(self, id: str, kind: str) -> Progress:
        def tell(stage: str, done: int, total: int) -> None:
            if self._stopping.is_set():
                raise _GivenUp
            self._progress[id] = Step(f"{kind}: {stage}", done, total)

        return tell


class _GivenUp(BaseException):
    """The server stops; not an `Exception`, so that nothing on the way takes it for a fault."""
