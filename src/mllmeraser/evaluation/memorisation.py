"""The memorisation gate: has the model learnt what it is asked to forget?

A model may score no better on the people to forget than one that never saw them. Then there is nothing to unlearn, and
a ranking of methods is a ranking of noise. Many published MLLMU-Bench tables fail here (38.8 against 36.7 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from mllmeraser.evaluation.records import Record
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Modality, Task

REQUIRED_GAP = 0.5
TASKS: tuple[Task, ...] = get_args(Task)


class NotMemorisedError(InputError):
    """The model knows too little about the people to forget, so scores of forgetting have no meaning."""


@dataclass(frozen=True)
class Memorisation:
    """The verdict of the gate; shares between 0 and 1.

    Attributes:
        gap: Mean of `gaps`, compared with `required`.
        required: Smallest gap that passes.
        gaps: By task, accuracy of the vanilla model minus that of the retain-only model.
        vanilla: By task, accuracy of the vanilla model over the items of both modalities.
        retain_only: The same for the retain-only model.
    """

    gap: float
    required: float
    gaps: Mapping[Task, float] = field(default_factory=dict)
    vanilla: Mapping[Task, float] = field(default_factory=dict)
    retain_only: Mapping[Task, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the gap is large enough."""
        # A gap of exactly fifty points must not fail by a rounding error.
        return self.gap >= self.required - 1e-12

    @property
    def reason(self) -> str:
        """The verdict in one line."""
        parts = ", ".join(
            f"{task} {100 * self.vanilla[task]:.1f} against {100 * self.retain_only[task]:.1f} %" for task in self.gaps
        )
        verb = "is at least" if self.passed else "is below"
        return (
            f"vanilla minus retain-only on the people to forget {verb} {100 * self.required:.0f} points: "
            f"{100 * self.gap:.1f} ({parts})"
        )

    def require(self) -> None:
        """Raise `NotMemorisedError`, with the reason in one line, unless the gate is passed."""
        if not self.passed:
            raise NotMemorisedError(
                f"scores are refused, there is too little to forget: {self.reason}; train the vanilla model longer"
            )


def memorised(
    vanilla: Sequence[Record],
    retain_only: Sequence[Record],
    *,
    required: float = REQUIRED_GAP,
    name: str = "forget",
) -> Memorisation:
    """Compare the records of a model with those of a model that never saw the people to forget.

    Each task has the same weight. Within a task, image and text items are pooled.

    Args:
        vanilla: Records of the model that is to forget.
        retain_only: Records of the model trained without those people.
        required: Smallest mean gap, as a share.
        name: The compared set.

    Raises:
        InputError: A task is missing on either side, a cell occurs twice, or the two sides differ in benchmark, split,
            protocol or items.
    """
    ours, theirs = _cells(vanilla, name, "vanilla"), _cells(retain_only, name, "retain-only")
    if ours.keys() != theirs.keys():
        raise InputError(f"the vanilla and the retain-only records of set {name} do not cover the same cells")
    for cell, record in ours.items():
        _check_same(record, theirs[cell])
    by_task = [{task: _accuracy(cells, task) for task in TASKS} for cells in (ours, theirs)]
    gaps = {task: by_task[0][task] - by_task[1][task] for task in TASKS}
    return Memorisation(sum(gaps.values()) / len(gaps), required, gaps, by_task[0], by_task[1])


def _cells(records: Sequence[Record], name: str, who: str) -> dict[tuple[Task, Modality], Record]:
    cells: dict[tuple[Task, Modality], Record] = {}
    for record in records:
        if record.set != name:
            continue
        cell = (record.task, record.modality)
        if cell in cells:
            raise InputError(
                f"two {who} records of set {name}, {record.task}, {record.modality}: keep those of one method"
            )
        cells[cell] = record
    missing = sorted(set(TASKS) - {task for task, _ in cells}, key=TASKS.index)
    if missing:
        raise InputError(f"the {who} records have no {', '.join(missing)} of set {name}: evaluate that set in full")
    return cells


def _check_same(a: Record, b: Record) -> None:
    for key in ("benchmark", "split", "protocol", "n"):
        one, other = getattr(a, key), getattr(b, key)
        if one != other:
            raise InputError(
                f"vanilla and retain-only differ in {key} ({one} and {other}): evaluate both in the same way"
            )


def _accuracy(cells: Mapping[tuple[Task, Modality], Record], task: Task) -> float:
    chosen = [record for (other, _), record in cells.items() if other == task]
    return sum(record.accuracy * record.n for record in chosen) / sum(record.n for record in chosen)
