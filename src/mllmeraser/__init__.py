"""Make a frozen multimodal model answer as if it had never learnt something.

An *eraser* is a small file. While it is attached to a model, the model does not recall what you asked it to forget.
Its weights do not change, and after detaching it answers as before. An example, on a model that ships with the package:

    import mllmeraser

    model = mllmeraser.load_model("embedded:llava")
    request = mllmeraser.forget_split("portraits:dev", "forget_5")
    eraser = mllmeraser.erase(model, request, seed=0)
    eraser.save_pretrained("people.eraser")
    print(mllmeraser.ask(model, "Who is this?", image="jane.png", erasers=[eraser]).answer)

Work on models
    - load_model        load a model: `embedded:llava`, a hub id, or a folder
    - erase             make an eraser for a request
    - consolidate       join several erasers into one
    - ask, evaluate     put one question, or a benchmark, to a model with or without erasers
    - shipped_basis     fit what many erasers of one model share, once
    - work_folder       keep captured states in a folder, to resume a killed run

Data
    - Request, Subject, Sample        what to forget and what to retain
    - forget_split, load_benchmark    requests and samples of a benchmark

Results
    - Eraser            save, load, attach and detach it
    - MultimodalModel, HookPoint      a loaded model, and the places in it that an eraser acts on

Settings of `erase`
    - FitSettings                     all settings; `FitSettings.preset("default")`, `"tail"` or `"paper"`
    - GateSettings, DirectionSettings, LayerPicks, LayerRange    parts of them
    - ContrastSet                     refused prompts, for the directions that need them
    - Progress                        protocol of a progress callback

Errors
    - MLLMEraserError                 the base class; its subclasses are InputError (bad input) and AttachError

Public names load on first use, so that `import mllmeraser` and `mllmeraser --help` are fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mllmeraser.version import __version__

if TYPE_CHECKING:
    from mllmeraser.api import ask, erase, evaluate, forget_split, shipped_basis, work_folder
    from mllmeraser.benchmarks.registry import load_benchmark
    from mllmeraser.erasure.artifact.consolidate import consolidate
    from mllmeraser.erasure.artifact.eraser import Eraser
    from mllmeraser.erasure.directions.contrast_states import ContrastSet
    from mllmeraser.erasure.settings import DirectionSettings, FitSettings, GateSettings, LayerPicks, LayerRange
    from mllmeraser.models.hookpoint import HookPoint
    from mllmeraser.models.loading import load_model
    from mllmeraser.models.model import MultimodalModel
    from mllmeraser.samples.errors import AttachError, InputError, MLLMEraserError
    from mllmeraser.samples.progress import Progress
    from mllmeraser.samples.request import Request
    from mllmeraser.samples.sample import Sample
    from mllmeraser.samples.subject import Subject

_MODULES = {
    "mllmeraser.api": ("ask", "erase", "evaluate", "forget_split", "shipped_basis", "work_folder"),
    "mllmeraser.benchmarks.registry": ("load_benchmark",),
    "mllmeraser.erasure.artifact.consolidate": ("consolidate",),
    "mllmeraser.erasure.artifact.eraser": ("Eraser",),
    "mllmeraser.erasure.directions.contrast_states": ("ContrastSet",),
    "mllmeraser.erasure.settings": ("DirectionSettings", "FitSettings", "GateSettings", "LayerPicks", "LayerRange"),
    "mllmeraser.models.hookpoint": ("HookPoint",),
    "mllmeraser.models.loading": ("load_model",),
    "mllmeraser.models.model": ("MultimodalModel",),
    "mllmeraser.samples.errors": ("AttachError", "InputError", "MLLMEraserError"),
    "mllmeraser.samples.progress": ("Progress",),
    "mllmeraser.samples.request": ("Request",),
    "mllmeraser.samples.sample": ("Sample",),
    "mllmeraser.samples.subject": ("Subject",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AttachError",
    "ContrastSet",
    "DirectionSettings",
    "Eraser",
    "FitSettings",
    "GateSettings",
    "HookPoint",
    "InputError",
    "LayerPicks",
    "LayerRange",
    "MLLMEraserError",
    "MultimodalModel",
    "Progress",
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
    "shipped_basis",
    "work_folder",
]


def __getattr__(name: str) -> Any:
    """Import the public name `name` from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
