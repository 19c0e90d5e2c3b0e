"""MLLMEraser itself: directions, gates, the artifact, and how it is fitted, attached and revoked."""

from mllmeraser.erasure.config import DirectionSettings, EraserConfig, GateSettings, PGDSettings
from mllmeraser.erasure.contrast import ContrastSet
from mllmeraser.erasure.eraser import Eraser
from mllmeraser.erasure.fit import FitResult, fit
from mllmeraser.erasure.policy import PAPER, PERSISTENT, TAIL, Policy
from mllmeraser.erasure.settings import FitSettings, LayerRange
from mllmeraser.erasure.statistics import Moments, Statistics

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
