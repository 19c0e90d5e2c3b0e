"""Answers under an eraser, without asking again where no answer can have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

import torch

from mllmeraser.benchmarks import Benchmark
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.calibration.score_prompts import GateReadings, read_gate
from mllmeraser.evaluation import Item
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.studies.scoring import Sets, ask

Cell = tuple[str, str, str]


class Questions:
    """Answers and gate readings of one model, each computed once.

    Answers are generated cell by cell (set, modality, task), as in an evaluation. If an eraser fires on no prompt of a
    cell, it changes no state. The answers are then bit-identical to the bare model's and taken from there, unless
    ``ask_all`` is set.
    """

    def __init__(
        self, model: MultimodalModel, benchmark: Benchmark, *, split: str, seed: int = 0, ask_all: bool = False
    ) -> None:
        self.model, self.benchmark, self.split, self.seed, self.ask_all = model, benchmark, split, seed, ask_all
        self._bare: dict[Hashable, list[Item]] = {}
        self._answers: dict[Hashable, list[Item]] = {}
        self._readings: dict[Hashable, GateReadings] = {}

    def bare(self, sets: Sets) -> list[Item]:
        """The answers of the model without an eraser."""
        cells = cells_of(sets)
        new = {cell: rows for cell, rows in cells.items() if _known(cell, rows) not in self._bare}
        for cell, items in self._asked(new, None).items():
            self._bare[_known(cell, cells[cell])] = items
        return [item for cell, rows in cells.items() for item in self._bare[_known(cell, rows)]]

    def answers(self, eraser: Eraser, sets: Sets) -> list[Item]:
        """The answers under an eraser."""
        cells = cells_of(sets)
        key = (steering_key(eraser), *(_known(cell, rows) for cell, rows in cells.items()))
        if key not in self._answers:
            quiet = {c for c, s in cells.items() if not self.ask_all and silent(eraser, self.reading(eraser, c, s))}
            asked = self._asked({cell: rows for cell, rows in cells.items() if cell not in quiet}, eraser)
            kept = [asked[cell] if cell in asked else self.bare({cell[0]: rows}) for cell, rows in cells.items()]
            self._answers[key] = [item for items in kept for item in items]
        return self._answers[key]

    def reading(self, eraser: Eraser, cell: Cell, samples: Sequence[Sample]) -> GateReadings:
        """The gate scores of the prompts of a cell."""
        key = gate_key(eraser), _known(cell, samples)
        if key not in self._readings:
            self._readings[key] = read_gate(self.model, eraser, samples)
        return self._readings[key]

    def pooled(self, eraser: Eraser, name: str, samples: Sequence[Sample]) -> torch.Tensor:
        """Pooled scores of the prompts of a set, cell by cell."""
        return torch.cat([self.reading(eraser, cell, rows).pooled for cell, rows in cells_of({name: samples}).items()])

    def _asked(self, cells: Mapping[Cell, Sequence[Sample]], eraser: Eraser | None) -> dict[Cell, list[Item]]:
        if not cells:
            return {}
        sets: dict[str, list[Sample]] = {}
        for (name, _, _), rows in cells.items():
            sets.setdefault(name, []).extend(rows)
        by_cell: dict[Cell, list[Item]] = {cell: [] for cell in cells}
        for item in ask(self.model, self.benchmark, sets, eraser, split=self.split, seed=self.seed):
            by_cell[item["set"], item["modality"], item["task"]].append(item)
        return by_cell


def cells_of(sets: Sets) -> dict[Cell, list[Sample]]:
    """The samples of every set by modality and task."""
    cells: dict[Cell, list[Sample]] = {}
    for name, samples in sets.items():
        for sample in samples:
            cells.setdefault((name, sample.modality, sample.task), []).append(sample)
    return cells


def silent(eraser: Eraser, readings: GateReadings) -> bool:
    """Whether an eraser changes no state of these prompts: all amplitudes are exactly zero."""
    config = eraser.config
    policy, threshold = config.policy, config.threshold or 0.0
    if config.strength == 0.0:
        return True
    if policy.decode:  # every later token is decided again
        return False
    scores = [readings.pooled] if policy.read == "request" else [s.amax(-1) for s in readings.layers.values()]
    return not any(bool(policy.amplitude(score, threshold).any()) for score in scores)


def gate_key(eraser: Eraser) -> Hashable:
    """Everything that gate readings depend on."""
    digest = hashlib.sha256()
    for name in sorted(n for n in eraser.tensors if n.startswith("gate.")):
        digest.update(name.encode())
        digest.update(eraser.tensors[name].contiguous().numpy().tobytes())
    config = eraser.config
    reads = config.shift_layers if config.policy.read == "per-layer" else config.read_layers
    return digest.hexdigest(), reads, config.policy


def steering_key(eraser: Eraser) -> Hashable:
    """Everything that answers depend on."""
    config = eraser.config
    return eraser.digest(), config.read_layers, config.shift_layers, config.policy, config.strength, config.threshold


def _known(cell: Cell, samples: Sequence[Sample]) -> Hashable:
    return (*cell, tuple(sample.id for sample in samples))
