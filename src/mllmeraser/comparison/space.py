"""The search space of trained methods: a YAML file with the same number of candidates for every method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from mllmeraser.comparison.method_rows import Row, row_of
from mllmeraser.comparison.recipe import (
    Count,
    MethodEntry,
    ModelEntry,
    Numbers,
    Recipe,
    Strict,
    is_trained,
    merged,
    read_mapping,
    validated,
)
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Task

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Criterion(Strict):
    """The rule that chooses a candidate, the same for every method.

    Among candidates with a utility at most `within` points below vanilla's, the lowest recalled share is chosen.
    Without such a candidate, the highest utility minus recalled share is chosen. Among equals, the first is chosen.

    Attributes:
        within: Points (per cent) of utility that may be lost.
        forget: Set of the recalled share (in `tasks`), both modalities together.
        utility: Sets of the utility: the mean of their accuracies, all tasks and modalities together.
    """

    within: float = Field(default=5, ge=0)
    forget: str = "forget"
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("generation", "cloze")
    utility: Names = ("retain_heldout", "celebrity", "general", "perception")

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets of the criterion."""
        return tuple(dict.fromkeys((self.forget, *self.utility)))


class Tried(Strict):
    """A method and its candidates: either a grid or a list.

    Attributes:
        settings: Shared by all candidates.
        grid: Setting -> values; every combination is a candidate, and the last setting changes fastest.
        candidates: Settings of each candidate.
    """

    method: str = Field(min_length=1)
    variant: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] | None = Field(default=None, min_length=1)
    candidates: tuple[dict[str, Any], ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_form(self) -> Tried:
        if (self.grid is None) == (self.candidates is None):
            raise ValueError("a method has either a grid or candidates")
        if not is_trained(self.method):
            raise ValueError(f"{self.method} is not trained: there is nothing to search")
        return self

    @property
    def title(self) -> str:
        """Method and variant."""
        return self._entry().title

    def varied(self) -> list[dict[str, Any]]:
        """The settings that differ between candidates, in order."""
        if self.grid is None:
            return list(self.candidates or ())
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    def _entry(self, **more: Any) -> MethodEntry:
        return MethodEntry(method=self.method, variant=self.variant, **more)

    def entry(self, varied: Mapping[str, Any]) -> MethodEntry:
        """A candidate as a row of a comparison."""
        return self._entry(settings=merged(self.settings, varied), label=f"{self.title}: {described(varied)}")


class SearchSpace(Strict):
    """The candidates, the people they are tried on, and the criterion. Other keys are as in a recipe.

    Attributes:
        fold: The validation fold. Never 0, which tables with one fold use.
        test_folds: Folds that tables use.
        seeds: Each candidate is made with each seed; its figures are means.
        sets: Set of the criterion -> largest number of samples of each task and modality (None, or not stated: all).
        limit: The same for sets without an own number.
        budget: Number of candidates of every method.
    """

    name: str = Field(min_length=1)
    model: ModelEntry
    benchmark: str = Field(min_length=1)
    training: str | None = None
    protocol: str | None = None
    split: str = "forget_5"
    fold: int = Field(default=1, ge=0)
    test_folds: Numbers = (0,)
    seeds: Numbers = (0,)
    sets: dict[str, Count | None] = Field(default_factory=dict)
    limit: Count | None = None
    batch_size: Count = 32
    budget: Count
    criterion: Criterion = Criterion()
    methods: tuple[Tried, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fair(self) -> SearchSpace:
        if self.fold == 0 or self.fold in self.test_folds:
            raise ValueError(f"fold {self.fold} is a test fold: search on the validation fold")
        unused = [name for name in self.sets if name not in self.criterion.sets]
        if unused:
            raise ValueError(f"sets.{unused[0]}: the criterion uses {', '.join(self.criterion.sets)} alone")
        titles = [tried.title for tried in self.methods]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is there twice: put all its candidates in one place")
        for tried in self.methods:
            if (count := len(tried.varied())) != self.budget:
                raise ValueError(
                    f"{tried.title} has {count} candidate(s), the budget is {self.budget}: give every method as many"
                )
        return self

    def recipe(self) -> Recipe:
        """The comparison of all candidates; it keeps no product."""
        same = {name: getattr(self, name) for name in ("name", "benchmark", "training", "protocol", "seeds", "limit")}
        return Recipe(
            **same,
            models=(self.model,),
            splits={self.split: (self.fold,)},
            sets={name: self.sets.get(name) for name in self.criterion.sets},
            methods=tuple(tried.entry(varied) for tried in self.methods for varied in tried.varied()),
            batch_size=self.batch_size,
            keep_products=False,
            activations=0,
        )


@dataclass(frozen=True)
class Candidate:
    """One setting of one method: `title` is method and variant, `name` the settings it differs in, in words."""

    title: str
    name: str
    settings: Mapping[str, Any]
    row: Row


def read_space(path: str | Path) -> SearchSpace:
    """Read a search space; a file that cannot be read, an unknown key or an unfit value is an InputError."""
    parts: dict[str, type[BaseModel]] = {"model": ModelEntry, "methods": Tried, "criterion": Criterion}
    return validated(SearchSpace, read_mapping(Path(path)), path, parts)


def candidates_of(space: SearchSpace) -> list[Candidate]:
    """All candidates in order; an InputError if a setting does not exist, or a method has one candidate twice."""
    candidates: list[Candidate] = []
    for tried in space.methods:
        for varied in tried.varied():
            entry = tried.entry(varied)
            row = row_of(entry)
            same = (one for one in candidates if one.title == tried.title and one.row.settings == row.settings)
            if (first := next(same, None)) is not None:
                raise InputError(f"{row.label} is the same as {first.name}: every candidate must differ")
            candidates.append(Candidate(tried.title, described(varied), entry.settings, row))
    return candidates


def described(varied: Mapping[str, Any]) -> str:
    """The settings that a candidate differs in, in words."""
    parts = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in varied.items())
    return ", ".join(parts) or "as shared"
