"""Make a frozen multimodal model answer as if it had never learnt something.

The public names load on first use, so that `import mllmeraser` and `mllmeraser --help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mllmeraser.version import __version__

_HOMES = {
    "AttachError": "mllmeraser.samples",
    "Eraser": "mllmeraser.erasure.artifact.eraser",
    "FitSettings": "mllmeraser.erasure.settings",
    "HookPoint": "mllmeraser.models.hookpoint",
    "InputError": "mllmeraser.samples",
    "MLLMEraserError": "mllmeraser.samples",
    "MultimodalModel": "mllmeraser.models.model",
    "Request": "mllmeraser.samples.request",
    "Sample": "mllmeraser.samples",
    "Subject": "mllmeraser.samples.request",
    "ask": "mllmeraser.api",
    "consolidate": "mllmeraser.erasure.artifact.consolidate",
    "erase": "mllmeraser.api",
    "evaluate": "mllmeraser.api",
    "forget_split": "mllmeraser.api",
    "load_benchmark": "mllmeraser.benchmarks.registry",
    "load_model": "mllmeraser.models.loading",
}

__all__ = [
    "AttachError",
    "Eraser",
    "FitSettings",
    "HookPoint",
    "InputError",
    "MLLMEraserError",
    "MultimodalModel",
    "Request",
    "Sample",
    "Subject",
    "__version__",
    "ask",
    "consolidate",
    "erase",
    "evaluate",
    "forget_split",
    "load_benchmark",
    "load_model",
]

if TYPE_CHECKING:
    from mllmeraser.api import ask, erase, evaluate, forget_split
    from mllmeraser.benchmarks.registry import load_benchmark
    from mllmeraser.erasure.artifact.consolidate import consolidate
    from mllmeraser.erasure.artifact.eraser import Eraser
    from mllmeraser.erasure.settings import FitSettings
    from mllmeraser.models.hookpoint import HookPoint
    from mllmeraser.models.loading import load_model
    from mllmeraser.models.model import MultimodalModel
    from mllmeraser.samples import AttachError, InputError, MLLMEraserError, Sample
    from mllmeraser.samples.request import Request, Subject


def __getattr__(name: str) -> Any:
    """Import the public name `name` from the room it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
