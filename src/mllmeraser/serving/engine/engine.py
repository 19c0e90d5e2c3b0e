"""One thread owns the model: it answers batches, and changes the erasers in force between two batches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import AttachError, InputError
from mllmeraser.serving.engine.attached import Applied, InForce
from mllmeraser.serving.engine.batch import Batch, BatchReport
from mllmeraser.serving.engine.errors import EngineClosed, EngineError
from mllmeraser.serving.engine.logprobs import TokenNames
from mllmeraser.serving.engine.queue import Queue
from mllmeraser.serving.engine.rows import Row
from mllmeraser.serving.engine.sampling import Sampling
from mllmeraser.serving.engine.tickets import Choose, Prompt, Ticket, Waiting

LOG = logging.getLogger(__name__)
NOT_IN_FORCE = "this server gives no answers: the erasers that should be in force are not"
STOPPED = "this server gives no more answers: it has stopped"
GRACE_S = 5.0
"""Seconds for an aborted batch to end."""


@dataclass(frozen=True)
class EngineSettings:
    """Sizes of the engine.

    Attributes:
        max_batch: Most rows answered together.
        max_wait_s: Seconds that the first request of a batch waits for others.
        max_queue: Most requests in the queue.
        max_tokens: Longest answer a request may ask for.
    """

    max_batch: int = 16
    max_wait_s: float = 0.004
    max_queue: int = 256
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        """Raise `InputError` if a size is out of range."""
        if min(self.max_batch, self.max_queue, self.max_tokens) < 1 or not 0 <= self.max_wait_s <= 10:
            raise InputError("max_batch, max_queue and max_tokens are at least 1, max_wait_s is between 0 and 10")


class EngineStatus(NamedTuple):
    """The set in force or the reason why there is none, and the number of requests in the queue and in the batch.

    The reason is for operators: it may name erasers.
    """

    applied: Applied | None
    closed: str | None
    queued: int
    running: int


class Engine:
    """Answers prompts with the erasers in force, or not at all.

    The engine is closed and refuses all requests until a set of erasers is applied. It closes again if a set cannot
    be applied or stops acting.
    """

    def __init__(
        self,
        model: MultimodalModel,
        settings: EngineSettings | None = None,
        observe: Callable[[BatchReport], None] | None = None,
    ) -> None:
        """Take over `model`, which only the engine may use from now on; `observe` receives a report of every batch."""
        self._model = model
        self._settings = settings or EngineSettings()
        self._observe = observe
        self._names = TokenNames(model.processor.tokenizer)
        self._force: InForce | None = None
        self._closed: str | None = "no erasers have been applied yet"
        self._latest: int | None = None
        self._queue = Queue(self._settings.max_queue, EngineClosed(NOT_IN_FORCE))
        self._running: Sequence[Row] = ()
        self._batch_s = 0.5
        self._abort = threading.Event()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    # -- from any thread -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; a second start raises `EngineError`."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise EngineError("the engine was started before: make a new one") from error

    def stop(self, drain: bool = True, timeout_s: float = 30.0) -> bool:
        """Refuse new requests, finish the queue (or fail it, without `drain`), and detach the erasers.

        Requests unfinished after `timeout_s` fail. Returns False if the engine is still busy after that.
        """
        error = EngineClosed(STOPPED)
        started = self._thread.ident is not None
        if not drain:
            self._abort.set()
        self._queue.stop(error, drain=drain and started)
        if not started:
            return True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abort.set()
            self._queue.stop(error, drain=False)
            self._thread.join(GRACE_S)
        return not self._thread.is_alive()

    def apply(self, version: int, erasers: Mapping[str, Steerable], view: Any = None) -> Future[Applied]:
        """Put exactly these erasers in force, between two batches. Requests choose from `view`, by default `Applied`.

        The result is done once the effect of the erasers was checked. If attaching or the check fails, it raises, and
        the engine closes until a later set is in force. A version lower than one applied before raises `EngineError`
        and changes nothing.
        """
        copied = dict(erasers)
        return self._between(lambda: self._apply(version, copied, view))

    def probe(self) -> Future[Applied]:
        """Check, between two batches, that the erasers in force act; if not, close the engine and raise."""
        return self._between(self._probe)

    def submit(self, prompt: Prompt, sampling: Sampling, choose: Choose, *, deadline_s: float) -> Ticket:
        """Ask for an answer; after `deadline_s` seconds it fails with `TimedOut`.

        `choose` returns the names of this request's erasers. It is called in the engine's thread when the batch begins,
        with the view of the set in force. Its exceptions become the answer's. Raises `Busy` if the queue is full,
        `EngineClosed` if the engine refuses requests, and `InputError` if the requested answer is too long.
        """
        if sampling.max_tokens > self._settings.max_tokens:
            raise InputError(f"max_tokens is at most {self._settings.max_tokens} on this server")
        now = time.monotonic()
        request = Waiting(Ticket(), prompt, sampling, choose, now, now + deadline_s)
        self._queue.put(request, self._retry_after_s)
        return request.ticket

    def status(self) -> EngineStatus:
        """Return the current state."""
        force = self._force
        running = sum(row.ended is None for row in self._running)
        return EngineStatus(force.applied if force else None, self._closed, len(self._queue), running)

    def _retry_after_s(self, waiting: int) -> float:
        return max(0.1, self._batch_s * (1 + waiting // self._settings.max_batch))

    def _between(self, action: Callable[[], Applied]) -> Future[Applied]:
        future: Future[Applied] = Future()

        def command(error: EngineError | None) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                if error is not None:
                    raise error
                future.set_result(action())
            except BaseException as problem:
                future.set_exception(problem)

        self._queue.command(command)
        return future

    # -- in the engine's thread ------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._work_once():
                self._queue.expire()
        finally:
            self._queue.stop(EngineClosed(STOPPED), drain=False)
            self._close("stopped")

    def _work_once(self) -> bool:
        """Do the next job; False once there are no more. A separate method, so that no request outlives its batch."""
        job = self._queue.next(self._settings.max_batch, self._settings.max_wait_s)
        if callable(job):
            job(None)
        elif job:
            self._serve([request for request in job if not request.ticket.done])
        return job is not None

    def _apply(self, version: int, erasers: Mapping[str, Steerable], view: Any) -> Applied:
        if self._latest is not None and version < self._latest:
            raise EngineError(
                f"version {version} of the erasers is older than {self._latest}, which was applied before"
            )
        self._latest = version
        self._detach()
        try:
            self._force = InForce(self._model, version, erasers, view)
        except BaseException as error:
            self._close(f"version {version} could not be put in force: {error}")
            raise
        self._closed = None
        self._queue.accept()
        return self._force.applied

    def _probe(self) -> Applied:
        if self._force is None:
            raise EngineClosed(f"nothing is in force: {self._closed}")
        try:
            self._force.probe()
        except BaseException as error:
            self._close(f"version {self._force.applied.version} is not seen to act: {error}")
            raise
        return self._force.applied

    def _serve(self, requests: Sequence[Waiting]) -> None:
        if not requests:
            return
        assert self._force is not None, "the queue takes no request while nothing is in force"
        batch = Batch(self._model, self._force, self._names, requests, self._before_token)
        try:
            batch.run()
        except BaseException as error:
            if isinstance(error, AttachError):  # close before the requests fail, for a client may retry at once
                self._close(f"the erasers failed while answering: {error}")
            batch.fail(error)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, AttachError):
                LOG.exception("a batch failed")
                with suppress(Exception):  # a failed probe closes the engine, and `status` states why
                    self._probe()
        finally:
            self._running = ()
        self._report(batch.report(len(self._queue)))

    def _before_token(self, rows: Sequence[Row]) -> None:
        self._running = rows
        self._queue.expire()
        if self._abort.is_set():
            for row in rows:
                row.fail(EngineClosed(STOPPED))

    def _report(self, report: BatchReport) -> None:
        self._batch_s += 0.2 * (report.seconds - self._batch_s)
        if self._observe is not None:
            try:
                self._observe(report)
            except Exception:
                LOG.exception("the observer of batches failed")

    def _close(self, reason: str) -> None:
        """Refuse all requests and detach the erasers."""
        self._closed = reason
        self._queue.refuse(EngineClosed(NOT_IN_FORCE))
        self._detach()

    def _detach(self) -> None:
        force, self._force = self._force, None
        if force is not None:
            force.detach()
