"""What a row of an ablation is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mllmeraser.erasure.settings import FitSettings
from mllmeraser.studies.ablation.edits import Edit
from mllmeraser.studies.ablation.lab import Shown


@dataclass(frozen=True)
class Row:
    """One thing changed.

    Attributes:
        section: Letter of the part of the ablation.
        name: What is different, unique within the section.
        settings: Of the fit; None: the bare model.
        edits: Changes of the fitted artifact, in order.
        shown: What the request is made of.
        alone: Whether every person has a request and an artifact of their own.
    """

    section: str
    name: str
    settings: FitSettings | None
    edits: tuple[Edit, ...] = ()
    shown: Shown = Shown()
    alone: bool = False

    @property
    def key(self) -> str:
        """By which the row is found in the report."""
        return f"{self.section}: {self.name}"


def changed(settings: FitSettings, **changes: Any) -> FitSettings:
    """Settings with some fields changed; a mapping changes fields of a field."""
    content = settings.model_dump()
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    return FitSettings.model_validate(content)
