"""The engine: micro-batches of one model with the erasers in force, a choice of them for every request."""

from mllmeraser.serving.engine.attached import Applied, EraserSetView, NamedSet
from mllmeraser.serving.engine.engine import Engine, EngineSettings
from mllmeraser.serving.engine.errors import Busy, EngineClosed, EngineError, TimedOut
from mllmeraser.serving.engine.logprobs import Alternative, TokenLogprob
from mllmeraser.serving.engine.report import BatchReport, EngineStatus
from mllmeraser.serving.engine.sampling import Sampling
from mllmeraser.serving.engine.tickets import Answer, Choose, Finish, GateReading, Piece, Prompt, Ticket

__all__ = [
    "Alternative",
    "Answer",
    "Applied",
    "BatchReport",
    "Busy",
    "Choose",
    "Engine",
    "EngineClosed",
    "EngineError",
    "EngineSettings",
    "EngineStatus",
    "EraserSetView",
    "Finish",
    "GateReading",
    "NamedSet",
    "Piece",
    "Prompt",
    "Sampling",
    "Ticket",
    "TimedOut",
    "TokenLogprob",
]
