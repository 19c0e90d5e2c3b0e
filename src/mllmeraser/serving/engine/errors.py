"""What can go wrong with a request, apart from what it asks for."""

from __future__ import annotations

from mllmeraser.samples.errors import MLLMEraserError


class EngineError(MLLMEraserError):
    """A request that the engine could not answer."""


class EngineClosed(EngineError):
    """The engine answers nothing: what should be in force is not, or it has stopped."""


class TimedOut(EngineError):
    """The deadline of a request passed before its answer was complete."""


class Busy(EngineError):
    """The queue is full.

    Attributes:
        retry_after_s: When a place may be free again, in seconds.
    """

    def __init__(self, retry_after_s: float) -> None:
        """Say when to come again."""
        super().__init__(f"the server is busy: try again in {retry_after_s:.1f} seconds")
        self.retry_after_s = retry_after_s


def again(error: EngineError) -> EngineError:
    """The same error for one more request: one that is raised twice would keep the frames of both."""
    return type(error)(str(error))
