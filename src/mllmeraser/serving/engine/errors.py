"""Errors of the engine that are no fault of the request."""

from __future__ import annotations

from mllmeraser.samples.errors import MLLMEraserError


class EngineError(MLLMEraserError):
    """The engine could not answer a request."""


class EngineClosed(EngineError):
    """The engine refuses all requests: the required erasers are not in force, or it has stopped."""


class TimedOut(EngineError):
    """The deadline of a request passed before its answer was complete."""


class Busy(EngineError):
    """The queue is full; ``retry_after_s`` estimates in seconds when it has room again."""

    def __init__(self, retry_after_s: float) -> None:
        """State when to try again."""
        super().__init__(f"the server is busy: try again in {retry_after_s:.1f} seconds")
        self.retry_after_s = retry_after_s


def again(error: EngineError) -> EngineError:
    """Copy an error for one more request: raising the same one twice would keep the frames of both."""
    return type(error)(str(error))
