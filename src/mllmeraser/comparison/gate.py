"""The memorisation gate of a comparison: whose scores mean something."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.rows import RETAIN_ONLY, VANILLA
from mllmeraser.evaluation.memorisation import memorised
from mllmeraser.samples.errors import InputError

SETS = ("forget", "test")


class Verdict(BaseModel):
    """Whether a model knew the people of a split and fold before it was to forget them.

    Attributes:
        passed: None where there is nothing to tell it by.
        gap: Vanilla minus retain-only, mean over tasks, as a share.
        reason: In one line.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    split: str
    fold: int
    passed: bool | None
    gap: float | None = None
    reason: str


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    """One verdict for each model, split and fold."""
    groups: dict[tuple[str, str, int], dict[str, Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.split, cell.fold), {}).setdefault(cell.method, cell)
    return [_verdict(*key, methods) for key, methods in groups.items()]


def refused(found: Sequence[Verdict]) -> dict[tuple[str, str], str]:
    """Model and split -> why its scores mean nothing, where any of its folds fails the gate."""
    failed = [verdict for verdict in found if verdict.passed is False]
    return {(v.model, v.split): f"fold {v.fold}: {v.reason}" for v in reversed(failed)}


def _verdict(model: str, split: str, fold: int, methods: dict[str, Cell]) -> Verdict:
    vanilla, twin = methods.get(VANILLA), methods.get(RETAIN_ONLY)
    if vanilla is None or vanilla.status != "done" or twin is None or twin.status != "done":
        lacking = twin if vanilla is not None and vanilla.status == "done" else vanilla
        why = lacking.reason if lacking is not None and lacking.reason else "it was not run"
        who = RETAIN_ONLY if lacking is twin else VANILLA
        return Verdict(model=model, split=split, fold=fold, passed=None, reason=f"not checked, no {who} row: {why}")
    told = {record.set for record in vanilla.records} & {record.set for record in twin.records}
    name = next((name for name in SETS if name in told), SETS[0])
    try:
        judged = memorised(vanilla.records, twin.records, name=name)
    except InputError as error:
        return Verdict(model=model, split=split, fold=fold, passed=None, reason=f"not checked: {error}")
    return Verdict(model=model, split=split, fold=fold, passed=judged.passed, gap=judged.gap, reason=judged.reason)
