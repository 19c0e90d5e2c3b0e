"""The engine: answers micro-batches on one model, with a choice among the erasers in force for every request."""

from mllmeraser.serving.engine.attached import Applied
from mllmeraser.serving.engine.batch import BatchReport
from mllmeraser.serving.engine.engine import Engine, EngineSettings
from mllmeraser.serving.engine.errors import Busy, EngineClosed, EngineError, TimedOut
from mllmeraser.serving.engine.sampling import Sampling
from mllmeraser.serving.engine.tickets import Choose, Piece, Prompt, Ticket

__all__ = [
    "Applied",
    "BatchReport",
    "Busy",
    "Choose",
    "Engine",
    "EngineClosed",
    "EngineError",
    "EngineSettings",
    "Piece",
    "Prompt",
    "Sampling",
    "Ticket",
    "TimedOut",
]
