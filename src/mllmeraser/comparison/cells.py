"""Cells and their files: one method on one model, split, fold and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, Field, ValidationError

from mllmeraser.comparison.method_rows import Row
from mllmeraser.evaluation import Item, Record
from mllmeraser.samples import Sample
from mllmeraser.samples.files import write_whole
from mllmeraser.version import __version__

FORMAT = 1
"""Raised when the same settings give another file. Old cells are then run again."""
State = Literal["done", "missing", "failed"]


@dataclass(frozen=True)
class Task:
    """A cell before its run.

    `digest` and `product` are SHA-256 (hex) over everything that decides the result and the product; `product` is empty
    for rows without one.
    """

    model: str
    split: str
    fold: int
    seed: int
    row: Row
    digest: str
    product: str = ""


class Cloud(BaseModel, extra="forbid"):
    """States of one group of prompts in the plane of a figure, before and after steering."""

    set: str
    before: list[tuple[float, float]]
    after: list[tuple[float, float]]


class Activations(BaseModel, extra="forbid"):
    """The movement of states at the first shifted layer of an eraser.

    Attributes:
        layer: 0-based.
        variance: Share of the variance of all these states on each axis of the plane.
        groups: forget and retain.
        distances: By pair of clouds: the energy distance in the full space and its share of the largest possible one,
            and the Wasserstein distance on the first axis.
    """

    layer: int
    variance: tuple[float, float]
    groups: dict[str, Cloud]
    distances: dict[str, dict[str, float]]


class Cell(BaseModel, extra="forbid"):
    """The result of a cell.

    Attributes:
        status: done; missing: there is nothing to measure (no retain-only model); failed: an error.
        reason: One line, if it is not done; `trace` is the traceback of an unexpected error.
        making_seconds: Time to make the product; None for rows without one. `stages` are the timed parts of it.
        answering_seconds: Time of all answers; None if the answers were read from a file.
        control: Of vanilla: its answers about the people to forget, scored as answers about another of them.
    """

    format: int = FORMAT
    version: str = __version__
    digest: str
    status: State
    reason: str | None = None
    trace: str | None = None
    model: str
    fingerprint: str
    benchmark: str
    protocol: str
    split: str
    fold: int
    seed: int
    label: str
    method: str
    preset: str | None = None
    variant: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    making_seconds: float | None = None
    stages: dict[str, float] = Field(default_factory=dict)
    answering_seconds: float | None = None
    product_bytes: int | None = None
    records: list[Record] = Field(default_factory=list)
    items: list[dict[str, Any]] = Field(default_factory=list)
    control: list[Record] = Field(default_factory=list)
    activations: Activations | None = None

    @property
    def title(self) -> str:
        """The cell in a few words."""
        return f"{self.label} on {self.model}, {self.split}, fold {self.fold}, seed {self.seed}"

    @property
    def answers(self) -> list[Item]:
        """The items with their type. Pydantic accepts no TypedDict before Python 3.12."""
        return cast(list[Item], self.items)

    @property
    def per_answer(self) -> float | None:
        """Seconds per answer."""
        if self.answering_seconds is None or not self.items:
            return None
        return self.answering_seconds / len(self.items)


def cell_file(out: Path, digest: str) -> Path:
    """File of a cell of the comparison in `out`."""
    return out / "cells" / f"{digest}.json"


def write_cell(out: Path, cell: Cell) -> None:
    """Write a cell in one step."""
    write_whole(cell_file(out, cell.digest), cell.model_dump_json(indent=1) + "\n", force=True)


def read_cell(out: Path, digest: str) -> Cell | None:
    """The cell of an earlier run; None if there is none, or its file is not valid."""
    try:
        cell = Cell.model_validate_json(cell_file(out, digest).read_bytes())
    except (OSError, ValidationError):
        return None
    return cell if cell.digest == digest and cell.format == FORMAT else None


def digest_of(content: Any) -> str:
    """SHA-256 (hex) of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def sets_digest(sets: Mapping[str, Sequence[Sample]]) -> str:
    """SHA-256 (hex) over every question, picture and gold answer."""
    return digest_of(
        {name: [[s.id, s.digest(), s.answer, list(s.keywords)] for s in samples] for name, samples in sets.items()}
    )
