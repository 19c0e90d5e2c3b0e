"""Two methods on the same items: differences by people, exact tests, corrected for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mllmeraser.evaluation.intervals import Difference, holm, mcnemar, paired_difference
from mllmeraser.evaluation.records import Item
from mllmeraser.samples.errors import InputError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Method `a` against method `b` in one cell.

    Attributes:
        set: Set of the cell.
        modality: Modality of the cell.
        task: Task of the cell.
        n: Items.
        difference: Accuracy of `a` minus accuracy of `b`, with a bootstrap interval over people.
        p: Exact McNemar test.
        p_holm: The same, corrected for the number of cells.
    """

    set: str
    modality: str
    task: str
    n: int
    difference: Difference
    p: float
    p_holm: float


def compare(a: Sequence[Item], b: Sequence[Item], *, seed: int = 0) -> list[Comparison]:
    """Compare two runs cell by cell.

    Raises:
        InputError: The runs are not about the same items.
    """
    others = {_key(item): item for item in b}
    mine = {_key(item): item for item in a}
    if not mine or mine.keys() != others.keys():
        shared = len(mine.keys() & others.keys())
        raise InputError(
            f"the runs are not about the same items ({len(mine)} and {len(others)}, {shared} in common): "
            "evaluate both on the same sets"
        )
    cells: dict[tuple[str, str, str], list[tuple[Item, Item]]] = {}
    for key, item in mine.items():
        cells.setdefault((item["set"], item["modality"], item["task"]), []).append((item, others[key]))
    found = [_cell(cell, pairs, seed) for cell, pairs in cells.items()]
    adjusted = holm([comparison.p for comparison in found])
    return [replace(comparison, p_holm=p) for comparison, p in zip(found, adjusted, strict=True)]


def _cell(cell: tuple[str, str, str], pairs: list[tuple[Item, Item]], seed: int) -> Comparison:
    right_a, right_b = [x["correct"] for x, _ in pairs], [y["correct"] for _, y in pairs]
    people = [x["subject"] or x["id"] for x, _ in pairs]
    difference = paired_difference(list(map(float, right_a)), list(map(float, right_b)), people, seed=seed)
    p = mcnemar(right_a, right_b).p
    return Comparison(cell[0], cell[1], cell[2], len(pairs), difference, p, p)


def _key(item: Item) -> tuple[str, str]:
    return item["set"], item["id"]
