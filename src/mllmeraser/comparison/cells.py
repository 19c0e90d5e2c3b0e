"""Cells and their files: one method on one model, split, fold and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mllmeraser.comparison.rows import Row
from mllmeraser.evaluation.records import Item, Record
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.sample import Sample
from mllmeraser.version import __version__

FORMAT = 1
"""Raised when the same settings give another file: old cells are then run again."""

State = Literal["done", "missing", "failed"]


@dataclass(frozen=True)
class Task:
    """A cell before it is run.

    Attributes:
        model: Name of the model.
        split: How many people are forgotten.
        fold: Which.
        seed: Of everything random.
        row: The method.
        digest: SHA-256 (hex) over all that decides what comes out.
        product: The same over what decides the product alone; empty for rows without one.
    """

    model: str
    split: str
    fold: int
    seed: int
    row: Row
    digest: str
    product: str = ""

    @property
    def title(self) -> str:
        """The cell in a few words."""
        return f"{self.row.label} on {self.model}, {self.split}, fold {self.fold}, seed {self.seed}"


class Cloud(BaseModel):
    """States of one group of prompts in the plane of a figure, before and after steering."""

    model_config = ConfigDict(extra="forbid")

    set: str
    before: list[tuple[float, float]]
    after: list[tuple[float, float]]


class Activations(BaseModel):
    """How an eraser moves the states at its first shifted layer.

    Attributes:
        layer: 0-based.
        variance: Share of the variance of all states shown that each axis of the plane holds.
        groups: forget and retain.
        distances: Between two clouds in the full space (energy distance and its share of the largest possible one)
            and on the first axis (Wasserstein), by name of the pair.
    """

    model_config = ConfigDict(extra="forbid")

    layer: int
    variance: tuple[float, float]
    groups: dict[str, Cloud]
    distances: dict[str, dict[str, float]]


class Cell(BaseModel):
    """What a cell left behind.

    Attributes:
        status: done; missing: there is nothing to measure (no retain-only model); failed: it should have worked.
        reason: One line, where it is not done.
        trace: Where the program was when it failed.
        making_seconds: Time to make the product; None for rows without one.
        stages: Its parts, where they were timed.
        answering_seconds: Time to answer everything; None where the answers were not given now.
        product_bytes: Size of the product.
    """

    model_config = ConfigDict(extra="forbid")

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
    activations: Activations | None = None

    @property
    def title(self) -> str:
        """The cell in a few words."""
        return f"{self.label} on {self.model}, {self.split}, fold {self.fold}, seed {self.seed}"

    @property
    def answers(self) -> list[Item]:
        """The items under their type: pydantic takes no TypedDict before Python 3.12."""
        return cast(list[Item], self.items)

    @property
    def per_answer(self) -> float | None:
        """Seconds per answer."""
        if self.answering_seconds is None or not self.items:
            return None
        return self.answering_seconds / len(self.items)


def cell_file(out: Path, digest: str) -> Path:
    """Where a cell of a comparison in `out` is kept."""
    return out / "cells" / f"{digest}.json"


def write_cell(out: Path, cell: Cell) -> None:
    """Write a cell, whole or not at all."""
    write_whole(cell_file(out, cell.digest), cell.model_dump_json(indent=1) + "\n", force=True)


def read_cell(out: Path, digest: str) -> Cell | None:
    """A cell that was run before; None if there is none, or its file is of no use."""
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


def folder_digest(folder: Path) -> str:
    """SHA-256 (hex) over names, sizes and times of the files of a checkpoint: enough to see that it is another one.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return digest_of([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])
