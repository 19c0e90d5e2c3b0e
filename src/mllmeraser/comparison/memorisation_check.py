"""The memorisation check of a comparison: scores of forgetting need a model that knew the people.

Vanilla must be right at least 50 points more often than a control that does not know them. The control is the
retain-only row. Without one it is *swapped answers*: each answer of vanilla is also scored as the answer to the same
question about another person to forget. A model that guesses, or answers alike about everybody, is right equally often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.recipe import RETAIN_ONLY, VANILLA
from mllmeraser.evaluation import Item, memorised
from mllmeraser.samples import InputError, Sample

SETS = ("forget", "test")
ADVICE = (
    "fine-tune the checkpoint on the benchmark's people first and name it in the recipe, or state a model trained "
    "without them as retain_only"
)


class Verdict(BaseModel, extra="forbid"):
    """Whether a model knew the people of a split and fold before it was to forget them.

    Attributes:
        passed: None in files of earlier versions, where nothing was checked.
        gap: Vanilla minus control, mean over tasks, as a share.
    """

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
    """Model and split -> why its scores mean nothing, if any of its folds does not pass."""
    failed = [verdict for verdict in found if not verdict.passed]
    return {(v.model, v.split): f"fold {v.fold}: {v.reason}" for v in reversed(failed)}


def _verdict(model: str, split: str, fold: int, methods: dict[str, Cell]) -> Verdict:
    def of(passed: bool, reason: str, gap: float | None = None) -> Verdict:
        return Verdict(model=model, split=split, fold=fold, passed=passed, gap=gap, reason=reason)

    vanilla, twin = methods.get(VANILLA), methods.get(RETAIN_ONLY)
    if vanilla is None or vanilla.status != "done":
        return of(False, f"not checked, no {VANILLA} row: {(vanilla and vanilla.reason) or 'it was not run'}")
    has_twin = twin is not None and twin.status == "done"
    why = (twin and twin.reason) or "it was not run"
    control = twin.records if twin is not None and has_twin else vanilla.control
    if not control:
        people = "answers can be swapped only if forget or test is asked about two people or more"
        return of(False, f"not checked, no {RETAIN_ONLY} row ({why}), and {people}")
    shared = {record.set for record in vanilla.records} & {record.set for record in control}
    try:
        result = memorised(vanilla.records, control, name=next((name for name in SETS if name in shared), SETS[0]))
    except InputError as error:
        return of(False, f"not checked: {error}")
    if has_twin:
        return of(result.passed, result.reason, result.gap)
    parts = ", ".join(f"{task} {100 * result.vanilla[task]:.1f} against {100 * result.retain_only[task]:.1f} %"
                      for task in result.gaps)  # fmt: skip
    reason = (
        f"no {RETAIN_ONLY} row ({why}); right answers minus the same answers swapped between the people to forget: "
        f"{100 * result.gap:.1f} points ({parts}), at least {100 * result.required:.0f} are needed"
    )
    return of(result.passed, reason if result.passed else f"{reason}: {ADVICE}", result.gap)


def swapped(
    samples: Sequence[Sample], everyone: Sequence[Sample], items: Sequence[Item]
) -> tuple[list[Sample], dict[str, str]]:
    """The questions of `samples`, each with the gold answer of another person, and the answers in `items` to them.

    For each sample it is the question of the same task, modality and, where possible, attribute about the next person
    in `everyone`, under the sample's id. The answers are by that id. Both are empty if there is only one person.
    """
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in everyone:
        groups.setdefault((sample.task, sample.modality), []).append(sample)
    places = {sample.id: place for group in groups.values() for place, sample in enumerate(group, 1)}
    pairs: list[Sample] = []
    for sample in samples:
        group, place = groups.get((sample.task, sample.modality), []), places.get(sample.id, 0)
        others = [other for other in (*group[place:], *group[:place]) if other.subject != sample.subject]
        if not others:
            return [], {}
        other = next((other for other in others if other.attribute == sample.attribute), others[0])
        pairs.append(replace(other, id=sample.id))
    return pairs, {item["id"]: item["answer"] for item in items}
