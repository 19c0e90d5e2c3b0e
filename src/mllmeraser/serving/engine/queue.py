"""The queue between the callers and the one thread that answers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from mllmeraser.serving.engine.errors import Busy, EngineError, TimedOut, again
from mllmeraser.serving.engine.tickets import Waiting

Command = Callable[[EngineError | None], None]
"""Work between two batches; called with an error instead if it will never run."""


class Queue:
    """Requests in order, and commands that go before them. Thread-safe."""

    def __init__(self, limit: int, refusal: EngineError) -> None:
        """Hold at most `limit` requests; refuse all with `refusal` until `accept`."""
        self._limit = limit
        self._refusal: EngineError | None = refusal
        self._stopped: EngineError | None = None
        self._changed = threading.Condition()
        self._waiting: deque[Waiting] = deque()
        self._commands: deque[Command] = deque()

    def __len__(self) -> int:
        """Number of requests in the queue."""
        return len(self._waiting)

    def put(self, request: Waiting, retry_after_s: Callable[[int], float]) -> None:
        """Add a request. Raises `Busy` if the queue is full, or the error with which it refuses or has stopped."""
        with self._changed:
            error = self._stopped or self._refusal
            if error is not None:
                raise again(error)
            if len(self._waiting) >= self._limit:
                self._drop_ended()
            if len(self._waiting) >= self._limit:
                raise Busy(retry_after_s(len(self._waiting)))
            self._waiting.append(request)
            self._changed.notify_all()

    def command(self, command: Command) -> None:
        """Add a command; a stopped queue calls it with the error at once."""
        with self._changed:
            stopped = self._stopped
            if stopped is None:
                self._commands.append(command)
                self._changed.notify_all()
        if stopped is not None:
            command(again(stopped))

    def accept(self) -> None:
        """Accept requests from now on."""
        with self._changed:
            self._refusal = None

    def refuse(self, error: EngineError) -> None:
        """Refuse requests from now on; those in the queue fail with `error`."""
        with self._changed:
            self._refusal = error
            waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            request.ticket.fail(again(error))

    def stop(self, error: EngineError, *, drain: bool) -> None:
        """Accept nothing more; without `drain`, requests and commands in the queue fail with `error`."""
        waiting: deque[Waiting] = deque()
        commands: deque[Command] = deque()
        with self._changed:
            self._stopped = self._stopped or error
            if not drain:
                waiting, self._waiting = self._waiting, waiting
                commands, self._commands = self._commands, commands
            self._changed.notify_all()
        for request in waiting:
            request.ticket.fail(again(error))
        for command in commands:
            command(again(error))

    def next(self, rows: int, wait_s: float) -> Command | list[Waiting] | None:
        """Return the next command, or up to `rows` requests, or None once the queue has stopped and is empty.

        Waits until there is something. Once there is a request, it waits at most `wait_s` for more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._commands or self._waiting or self._stopped)
            if not self._commands and self._waiting and wait_s > 0:
                self._changed.wait_for(lambda: self._commands or self._stopped or len(self._waiting) >= rows, wait_s)
            if self._commands:
                return self._commands.popleft()
            if not self._waiting:
                return None if self._stopped else []
            return [self._waiting.popleft() for _ in range(min(rows, len(self._waiting)))]

    def expire(self) -> None:
        """Fail requests past their deadline, and drop requests that have ended."""
        now = time.monotonic()
        with self._changed:
            late = [request for request in self._waiting if request.deadline <= now]
        for request in late:
            request.ticket.fail(TimedOut("the deadline passed while the request was waiting"))
        with self._changed:
            self._drop_ended()

    def _drop_ended(self) -> None:
        self._waiting = deque(request for request in self._waiting if not request.ticket.done)
