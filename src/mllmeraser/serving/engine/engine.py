"""One thread that owns the model: it answers batches, and changes what is in force between two of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import AttachError, InputError
from mllmeraser.serving.engine.attached import Applied, EraserSetView, InForce
from mllmeraser.serving.engine.batch import Batch
from mllmeraser.serving.engine.errors import EngineClosed, EngineError
from mllmeraser.serving.engine.logprobs import TokenNames
from mllmeraser.serving.engine.queue import Queue
from mllmeraser.serving.engine.report import BatchReport, EngineStatus
from mllmeraser.serving.engine.rows import Row
from mllmeraser.serving.engine.sampling import Sampling
from mllmeraser.serving.engine.tickets import Choose, Prompt, Ticket, Waiting

LOG = logging.getLogger(__name__)
NOT_IN_FORCE = "this server gives no answers: the erasers that should be in force are not"
STOPPED = "this server gives no more answers: it has stopped"
GRACE_S = 5.0
"""How long a batch that was told to end may take to do so."""


@dataclass(frozen=True)
class EngineSettings:
    """Sizes of the engine.

    Attributes:
        max_batch: Most rows answered together.
        max_wait_s: How long the first request of a batch waits for others.
        max_queue: Most requests that wait.
        max_tokens: Longest answer that may be asked for.
    """

    max_batch: int = 16
    max_wait_s: float = 0.004
    max_queue: int = 256
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        """Refuse sizes that cannot work.

        Raises:
            InputError: If one is out of range.
        """
        if min(self.max_batch, self.max_queue, self.max_tokens) < 1 or not 0 <= self.max_wait_s <= 10:
            raise InputError("max_batch, max_queue and max_tokens are at least 1, max_wait_s is between 0 and 10")


class Engine:
    """Answers prompts with the erasers in force, or not at all.

    It is closed, and answers nothing, until a set of erasers has been applied, and again whenever one could not be,
    or is seen not to act.
    """

    def __init__(
        self,
        model: MultimodalModel,
        settings: EngineSettings | None = None,
        observe: Callable[[BatchReport], None] | None = None,
    ) -> None:
        """Take over `model`, which nobody else may use or change from now on; `observe` is told of every batch."""
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
        """Begin to work; once.

        Raises:
            EngineError: If it was started before.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise EngineError("the engine was started before: make a new one") from error

    def stop(self, drain: bool = True, timeout_s: float = 30.0) -> bool:
        """Take no more requests, finish those that came (or fail them, without `drain`), and take the erasers off.

        What is not finished after `timeout_s` fails. False if the engine is still busy after that.
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

    def apply(
        self, version: int, erasers: Mapping[str, Steerable], view: EraserSetView | None = None
    ) -> Future[Applied]:
        """Put exactly these erasers in force, between two batches.

        Args:
            version: Of the set; never lower than one applied before.
            erasers: By the names that requests choose; may be empty.
            view: What is handed to `choose`; by default a `NamedSet`.

        Returns:
            Done once the erasers are in force and were seen to act. If it raises because they could not be attached
            or do not act, the engine is closed: every request fails until a later set is in force. A version that
            is too low raises `EngineError` and changes nothing.
        """
        held = dict(erasers)
        return self._between(lambda: self._apply(version, held, view))

    def probe(self) -> Future[Applied]:
        """See, between two batches, that what is in force acts; if not, the engine is closed and this raises."""
        return self._between(self._probe)

    def submit(self, prompt: Prompt, sampling: Sampling, choose: Choose, *, deadline_s: float) -> Ticket:
        """Ask for an answer.

        Args:
            prompt: In the chat format.
            sampling: How it is decoded.
            choose: Called in the engine's thread with the view of what is in force, when the batch of this request
                begins; gives the names of its erasers. What it raises, the answer raises.
            deadline_s: Seconds after which an answer is of no use; then it fails with `TimedOut`.

        Raises:
            Busy: If the queue is full.
            EngineClosed: If nothing is answered.
            InputError: If the answer may not be as long as it asks.
        """
        if sampling.max_tokens > self._settings.max_tokens:
            raise InputError(f"max_tokens is at most {self._settings.max_tokens} on this server")
        now = time.monotonic()
        request = Waiting(Ticket(), prompt, sampling, choose, now, now + deadline_s)
        self._queue.put(request, self._retry_after_s)
        return request.ticket

    def status(self) -> EngineStatus:
        """The engine as it is."""
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
                result = action()
            except BaseException as problem:
                future.set_exception(problem)
            else:
                future.set_result(result)

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
        """Do what is next; False when there will be nothing more. No request is held while waiting for the next."""
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

    def _look_again(self) -> None:
        with suppress(Exception):  # what is wrong, `status` tells: the engine is closed then
            self._probe()

    def _serve(self, requests: Sequence[Waiting]) -> None:
        if not requests:
            return
        assert self._force is not None, "the queue takes no request while nothing is in force"
        batch = Batch(self._model, self._force, self._names, requests, self._before_token)
        try:
            batch.run()
        except BaseException as error:
            if isinstance(error, AttachError):  # closed before anybody is told, who might ask again at once
                self._close(f"the erasers failed while answering: {error}")
            batch.fail(error)
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, AttachError):
                LOG.exception("a batch failed")
                self._look_again()
        finally:
            self._running = ()
        self._tell(batch.report(len(self._queue)))

    def _before_token(self, rows: Sequence[Row]) -> None:
        self._running = rows
        self._queue.expire()
        if self._abort.is_set():
            for row in rows:
                row.fail(EngineClosed(STOPPED))

    def _tell(self, report: BatchReport) -> None:
        self._batch_s += 0.2 * (report.seconds - self._batch_s)
        if self._observe is not None:
            try:
                self._observe(report)
            except Exception:
                LOG.exception("the observer of batches failed")

    def _close(self, reason: str) -> None:
        """Answer nothing more; the model is bare, and nobody is let to it."""
        self._closed = reason
        self._queue.refuse(EngineClosed(NOT_IN_FORCE))
        self._detach()

    def _detach(self) -> None:
        force, self._force = self._force, None
        if force is not None:
            force.detach()
