"""Logs: one JSON object per line, ours and other packages'.

An unexpected error is logged with its kind and its places in the code, without its message, which may quote a client.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import ExcInfo, Processor

_frames = ExceptionDictTransformer(show_locals=False)
KEPT = ("exc_type", "is_cause", "frames", "is_group")


def _without_messages(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """An error and its causes: kinds and places in the code."""
    return [{key: link[key] for key in KEPT if key in link} for link in _frames(exc_info)]


def log_as_json() -> None:
    """Write all logs of this process as JSON on standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shape: list[Processor] = [
        structlog.processors.ExceptionRenderer(_without_messages),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=[*shared, *shape], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shape], foreign_pre_chain=shared
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
