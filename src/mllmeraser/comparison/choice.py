"""The figures of a search's candidates, and the choice between candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import fsum
from typing import Any, Literal

from pydantic import BaseModel, Field

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.pooling import values_of
from mllmeraser.comparison.space import Criterion
from mllmeraser.evaluation import OUTCOMES, Item
from mllmeraser.samples import InputError

Rule = Literal["within", "balance", "nothing"]
DIGITS = 9
"""Decimals of figures in comparisons; a smaller difference counts as equal."""


class Figures(BaseModel, extra="forbid"):
    """The figures of a row, means over seeds.

    Attributes:
        recalled: Recalled share of the forget set, in the tasks of the criterion.
        utility: Mean of `sets`.
        sets: Accuracy on each set of the utility.
        outcomes: Number of the answers behind `recalled` by outcome, all seeds together.
        gibberish: Share of gibberish among the answers behind `recalled` (forget) and `utility`. A collapsed model
            recalls nothing either.
        seconds: To make the products; None if there are none.
    """

    recalled: float
    utility: float
    sets: dict[str, float]
    outcomes: dict[str, int]
    gibberish: dict[str, float]
    seconds: float | None = None


class Judged(BaseModel, extra="forbid"):
    """A candidate after its cells were run.

    Attributes:
        name: The settings it differs in.
        figures: None if it could not be made, for the `reason`.
        within: Whether its utility is near enough to vanilla's.
        cells: Digests of its cells, one for each seed.
    """

    name: str
    settings: dict[str, Any]
    figures: Figures | None = None
    reason: str | None = None
    within: bool = False
    chosen: bool = False
    cells: list[str] = Field(default_factory=list)


def figures_of(cells: Sequence[Cell], criterion: Criterion) -> Figures:
    """Figures of the cells of one row, one for each seed; an InputError if a set of the criterion has no questions."""
    items = [item for cell in cells for item in cell.answers]
    forget = [item for item in items if item["set"] == criterion.forget and item["task"] in criterion.tasks]
    utility = [item for item in items if item["set"] in criterion.utility]
    sets = {name: _share(cells, name) for name in criterion.utility}
    counts = Counter(item["outcome"] for item in forget)
    made = [cell.making_seconds for cell in cells if cell.making_seconds is not None]
    return Figures(
        recalled=_share(cells, criterion.forget, criterion.tasks),
        utility=fsum(sets.values()) / len(sets),
        sets=sets,
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        gibberish={"forget": _gibberish(forget), "utility": _gibberish(utility)},
        seconds=fsum(made) if made else None,
    )


def choose(tried: Sequence[Judged], vanilla: Figures, criterion: Criterion) -> tuple[int | None, Rule]:
    """Mark the candidate that the criterion chooses; returns its place in the list, and the part of the rule.

    `within`: the lowest recalled share of those near enough to vanilla; `balance`: none was near enough, so the highest
    utility minus recalled share; `nothing`: none could be made.
    """
    floor = round(vanilla.utility - criterion.within / 100, DIGITS)
    known = [(number, one.figures) for number, one in enumerate(tried) if one.figures is not None]
    near = [(number, figures) for number, figures in known if round(figures.utility, DIGITS) >= floor]
    for number, _ in near:
        tried[number].within = True
    # min and max return the first of equals
    best: int | None = None
    rule: Rule = "nothing"
    if near:
        best, rule = min(near, key=lambda pair: round(pair[1].recalled, DIGITS))[0], "within"
    elif known:
        best, rule = max(known, key=lambda pair: round(pair[1].utility - pair[1].recalled, DIGITS))[0], "balance"
    if best is not None:
        tried[best].chosen = True
    return best, rule


def _gibberish(items: Sequence[Item]) -> float:
    return sum(item["outcome"] == "gibberish" for item in items) / max(1, len(items))


def _share(cells: Sequence[Cell], name: str, tasks: Sequence[str] | None = None) -> float:
    def keep(item: Item) -> bool:
        return item["set"] == name and (tasks is None or item["task"] in tasks)

    scores = [one.value for one in values_of(cells, keep=keep).values()]
    if not scores:
        raise InputError(f"the set {name} has no question that the criterion counts: leave it out of the criterion")
    return fsum(scores) / len(scores)
