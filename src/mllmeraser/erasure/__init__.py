"""MLLMEraser itself: directions, gates, the artifact, and how it is fitted, attached and revoked."""

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.fit import FitResult, fit
from mllmeraser.erasure.policy import PAPER, PERSISTENT, TAIL, Policy
from mllmeraser.erasure.settings import DirectionSettings, FitSettings, GateSettings, LayerRange, PGDSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import Statistics

__all__ = [
    "PAPER",
    "PERSISTENT",
    "TAIL",
    "ContrastSet",
    "DirectionSettings",
    "Eraser",
    "EraserConfig",
    "FitResult",
    "FitSettings",
    "GateSettings",
    "LayerRange",
    "Moments",
    "PGDSettings",
    "Policy",
    "Statistics",
    "fit",
]
