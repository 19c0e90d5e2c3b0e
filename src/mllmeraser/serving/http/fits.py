"""Fit and verify requests to forget, one after the other in the background."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import structlog

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.ledger import Entry, Ledger, TransitionError
from mllmeraser.serving.ledger.erasers import artifact_of, eraser_of
from mllmeraser.serving.packing import unpack_request
from mllmeraser.serving.verify import Verification, verify

WORKER = "background fit"
LEASE_SECONDS = 30.0
"""A server that is silent for so long is taken for dead. Clocks of servers on one ledger agree within a second."""
LONGEST = 500
"""Characters of a failure reason that the ledger keeps."""
NOT_KEPT = "its names and pictures are no longer kept, so it cannot be verified: request it again"
NOTHING_TO_FIT = "it came without pictures and names, so there is nothing to fit: request it again"
CANNOT_VERIFY = (
    "fitted, and cannot be verified: this server has no prompts about people whom its model knows; start it with "
    "--retain, --strangers and --verify-with"
)
Verifier = Callable[..., Verification]
"""`verify`, or the same with samples of the operator."""
Fitter = Callable[[MultimodalModel, Request, Progress], Eraser]
"""Fits an eraser for a request, on a model without attached erasers."""
log = structlog.get_logger("mllmeraser.fits")


class Step(NamedTuple):
    """Progress of the work on a request."""

    stage: str
    done: int
    total: int


class Fits:
    """One worker. Work that a stopped server left unfinished is taken up by the next start, or by another server."""

    def __init__(
        self,
        model: MultimodalModel,
        ledger: Ledger,
        fitter: Fitter,
        most: int,
        verifier: Verifier | None = verify,
        *,
        server: str = "server",
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """``model`` is a sibling of the served one, to which only candidates under test are attached.

        Without a ``verifier``, requests about people end as fitted, with the reason; those about other things are
        verified with the shipped prompts, which are about the real world. ``server`` holds the leases: of several
        servers on one ledger, one works on an entry, and another takes over what a dead one left.
        """
        self._verifier, self._server, self._lease_seconds = verifier, server, lease_seconds
        self._model, self._ledger, self._fitter, self._most = model, ledger, fitter, most
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._progress: dict[str, Step] = {}
        self._watch: Progress | None = None
        self._thread = threading.Thread(target=self._work, name="fits", daemon=True)
        self._stopping, self._lost = threading.Event(), threading.Event()

    def start(self) -> None:
        """Start the worker with the unfinished requests of the ledger."""
        self._take_up()
        self._thread.start()

    def _take_up(self) -> None:
        """Queue unfinished requests that are not in the queue. Those of other servers end at their leases."""
        for entry in self._ledger.list():
            unfinished = entry.state in ("requested", "fitted") and entry.failure is None
            if unfinished and self._ledger.has_inputs(entry.id):
                with suppress(Refusal):  # it is in the queue
                    self.add(entry.id)

    def stop(self) -> None:
        """Stop the worker; the current fit is dropped and begins again at the next start."""
        self._stopping.set()
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def check_capacity(self) -> None:
        """Raise `Refusal` (429) if too many requests wait; those of an earlier start may always wait."""
        if self._waiting.qsize() >= self._most:
            raise Refusal(429, "too many requests to forget are waiting for their fit", "busy", retry_after=60)

    def add(self, id: str) -> None:
        """Queue an entry for fit and verification, or verification only; `Refusal` (409) if it is in work already."""
        self._claim(id)
        self._waiting.put(id)

    def _claim(self, id: str) -> None:
        step = Step("waiting", 0, 1)
        if self._progress.setdefault(id, step) is not step:
            raise Refusal(409, "this erasure is being fitted or verified already")

    def fit_again(self, entry: Entry, by: str) -> None:
        """Queue a fit that failed or ended with another server, and its verification.

        Raises `Refusal`: 409 if the entry is fitted, has no request, or is in work; 429 if too many are waiting.
        """
        if entry.state != "requested":
            raise Refusal(409, f"{entry.name} is {entry.state}: only what is not yet fitted can be fitted")
        self._again(entry, by, NOTHING_TO_FIT)

    def verify_again(self, entry: Entry, by: str) -> None:
        """Queue a verification that failed or ended with another server; raises as `fit_again`."""
        if entry.state != "fitted":
            hint = "it is verified once it is fitted" if entry.state == "requested" else NOT_KEPT
            raise Refusal(409, f"{entry.name} is {entry.state}: {hint}")
        self._again(entry, by, NOT_KEPT)

    def _again(self, entry: Entry, by: str, no_inputs: str) -> None:
        if not self._ledger.has_inputs(entry.id):
            raise Refusal(409, f"{entry.name}: {no_inputs}")
        self.check_capacity()
        self._claim(entry.id)
        try:
            if entry.failure is not None:  # clears it, so the next start resumes the work if this server stops
                self._ledger.begun_again(entry.id, by=by)
        except BaseException:
            self._progress.pop(entry.id, None)
            raise
        self._waiting.put(entry.id)

    def progress(self) -> dict[str, Step]:
        """Progress of every entry in the queue or in work. Read it before the ledger, which has what ended since."""
        return dict(self._progress)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                id = self._waiting.get(timeout=self._lease_seconds / 3)
            except queue.Empty:
                with suppress(MLLMEraserError):  # the next round tries again
                    self._take_up()
                continue
            if id is None:
                return
            try:
                with self._leased(id) as mine:
                    if mine:
                        self._fit_and_verify(id)
            except _Stopped:
                if self._stopping.is_set():
                    return
                log.info("the lease is lost", entry=id)
            except TransitionError as error:  # another server was faster, or the entry was revoked
                log.info("done elsewhere", entry=id, error=type(error).__name__)
            except MLLMEraserError as error:
                self._failed(id, str(error))
            except Exception as error:  # noqa: BLE001 - one request must not end the worker
                log.exception("fit", entry=id)
                self._failed(id, f"internal error ({type(error).__name__})")
            finally:
                self._progress.pop(id, None)

    @contextmanager
    def _leased(self, id: str) -> Iterator[bool]:
        """Hold the lease of an entry, renewed in the background; False if another server has it."""
        if not self._ledger.lease(id, self._server, self._lease_seconds):
            yield False
            return
        done = threading.Event()
        self._lost.clear()
        renewing = threading.Thread(target=self._renew, args=(id, done), name="lease", daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            done.set()
            renewing.join()
            with suppress(MLLMEraserError):  # it ends by itself
                self._ledger.release(id, self._server)

    def _renew(self, id: str, done: threading.Event) -> None:
        held = time.monotonic() + self._lease_seconds
        while not done.wait(self._lease_seconds / 6):
            began = time.monotonic()
            try:
                mine = self._ledger.lease(id, self._server, self._lease_seconds)
                held = began + self._lease_seconds if mine else began
            except MLLMEraserError:
                pass  # the lease holds as long as it was promised
            if time.monotonic() >= held:
                self._lost.set()
                return

    def finish(self, id: str, progress: Progress | None = None) -> None:
        """Fit and verify an entry in this thread, without the queue. A failure is recorded and raised.

        Raises:
            TransitionError: Another server works on it, or has changed it.
            MLLMEraserError: It cannot be fitted or verified.
        """
        self._watch = progress
        with self._leased(id) as mine:
            if not mine:
                raise TransitionError("another server works on this erasure: wait for its result")
            try:
                self._fit_and_verify(id)
            except TransitionError:
                raise
            except MLLMEraserError as error:
                self._failed(id, str(error))
                raise
            except _Stopped:
                raise TransitionError("the lease of this erasure is lost: another server goes on with it") from None

    def _failed(self, id: str, reason: str) -> None:
        try:
            self._ledger.failed(id, by=WORKER, reason=" ".join(reason.split())[:LONGEST])
        except MLLMEraserError as error:
            log.error("fit failed and cannot be recorded", entry=id, error=type(error).__name__)

    def _fit_and_verify(self, id: str) -> None:
        packed, entry = self._ledger.inputs(id), self._ledger.get(id)
        if packed is None:
            return  # revoked meanwhile, or done by another server
        request = unpack_request(packed)
        if entry.state == "requested":
            made = artifact_of(self._fitter(self._model, request, self._progress_of(id, "fit")))
            entry = self._ledger.fitted(
                id, by=WORKER, artifact=made.files, fingerprint=made.fingerprint, digest=made.digest
            )
        if entry.state == "fitted" and entry.artifact_digest is not None:
            eraser = eraser_of(self._ledger.artifact(entry.artifact_digest))
            if self._verifier is None and request.about_people:
                raise InputError(CANNOT_VERIFY)
            result = (self._verifier or verify)(self._model, eraser, request, progress=self._progress_of(id, "verify"))
            self._ledger.verified(id, by=WORKER, scores=result.as_dict(), passed=result.passed)

    def _progress_of(self, id: str, kind: str) -> Progress:
        def progress(stage: str, done: int, total: int) -> None:
            if self._stopping.is_set() or self._lost.is_set():
                raise _Stopped
            self._progress[id] = Step(f"{kind}: {stage}", done, total)
            if self._watch is not None:
                self._watch(f"{kind}: {stage}", done, total)

        return progress


class _Stopped(BaseException):
    """The server stops, or has lost the lease; not an `Exception`, so no handler on the way treats it as a failure."""
