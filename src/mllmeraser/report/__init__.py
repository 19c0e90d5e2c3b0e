"""The report: one self-contained page of HTML, from plain data."""

from mllmeraser.report.content import (
    OUTCOMES,
    QA,
    ArtifactFacts,
    DemoResult,
    FalseAlarms,
    GatePanel,
    PersonCard,
    ScoreRow,
    Timing,
)
from mllmeraser.report.render import render_report

__all__ = [
    "OUTCOMES",
    "QA",
    "ArtifactFacts",
    "DemoResult",
    "FalseAlarms",
    "GatePanel",
    "PersonCard",
    "ScoreRow",
    "Timing",
    "render_report",
]
