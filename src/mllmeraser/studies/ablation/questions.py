"""Asking everything under an eraser, without asking what it cannot have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

import torch

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.score_prompts import GateReadings, read_gate
from mllmeraser.evaluation.records import Item
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.scoring import told

Cell = tuple[str, str, str]
Sets = Mapping[str, Sequence[Sample]]


class Questions:
    """Answers and readings of one model; what has been asked once is not asked again.

    Answers are asked for cell by cell (set, modality, task), as an evaluation does. Where a decision opens for no
    prompt of a cell, nothing is added to any state, and the answers are the bare model's, bit for bit: they are taken
    from there. ``ask_all`` asks them all the same.
    """

    def __init__(
        self, model: MultimodalModel, benchmark: Benchmark, *, split: str, seed: int = 0, ask_all: bool = False
    ) -> None:
        """Nothing is asked yet."""
        self.model, self.benchmark, self.split, self.seed, self.ask_all = model, benchmark, split, seed, ask_all
        self._bare: dict[Hashable, list[Item]] = {}
        self._answers: dict[Hashable, list[Item]] = {}
        self._readings: dict[Hashable, GateReadings] = {}

    def bare(self, sets: Sets) -> list[Item]:
        """The answers of the model without any eraser."""
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
            loud = cells
            if not self.ask_all:
                loud = {
                    cell: rows for cell, rows in cells.items() if not silent(eraser, self.reading(eraser, cell, rows))
                }
            found = self._asked(loud, eraser)
            kept = [found[cell] if cell in found else self.bare({cell[0]: rows}) for cell, rows in cells.items()]
            self._answers[key] = [item for items in kept for item in items]
        return self._answers[key]

    def reading(self, eraser: Eraser, cell: Cell, samples: Sequence[Sample]) -> GateReadings:
        """What the gates say about the prompts of a cell."""
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
        items = told(self.model, self.benchmark, sets, eraser, split=self.split, seed=self.seed)
        found: dict[Cell, list[Item]] = {cell: [] for cell in cells}
        for item in items:
            found[item["set"], item["modality"], item["task"]].append(item)
        return found


def cells_of(sets: Sets) -> dict[Cell, list[Sample]]:
    """The samples of every set by modality and task."""
    cells: dict[Cell, list[Sample]] = {}
    for name, samples in sets.items():
        for sample in samples:
            cells.setdefault((name, sample.modality, sample.task), []).append(sample)
    return cells


def silent(eraser: Eraser, readings: GateReadings) -> bool:
    """Whether an eraser adds nothing to any state of these prompts: amplitudes of exactly zero."""
    config = eraser.config
    policy, threshold = config.policy, config.threshold or 0.0
    if config.strength == 0.0:
        return True
    if policy.decode:  # the decision falls anew at every token that is still to come
        return False
    if policy.read == "request":
        return not bool(policy.amplitude(readings.pooled, threshold).any())
    return not any(bool(policy.amplitude(s.amax(-1), threshold).any()) for s in readings.layers.values())


def gate_key(eraser: Eraser) -> Hashable:
    """What readings depend on."""
    digest = hashlib.sha256()
    for name in sorted(n for n in eraser.tensors if n.startswith("gate.")):
        digest.update(name.encode())
        digest.update(eraser.tensors[name].contiguous().numpy().tobytes())
    config = eraser.config
    reads = config.shift_layers if config.policy.read == "per-layer" else config.read_layers
    return digest.hexdigest(), reads, config.policy


def steering_key(eraser: Eraser) -> Hashable:
    """What answers depend on."""
    config = eraser.config
    return eraser.digest(), config.read_layers, config.shift_layers, config.policy, config.strength, config.threshold


def _known(cell: Cell, samples: Sequence[Sample]) -> Hashable:
    return (*cell, tuple(sample.id for sample in samples))
