"""The search space of methods that are trained: a YAML file, the same number of candidates for every method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator, model_validator

from mllmeraser.comparison.recipe import (
    Count,
    MethodEntry,
    ModelEntry,
    Numbers,
    Recipe,
    Strict,
    fitted,
    is_trained,
    merged,
    read_mapping,
)
from mllmeraser.comparison.rows import Row, row_of
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Task

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Criterion(Strict):
    """Which candidate is taken; the same rule for every method.

    Of the candidates whose utility is at most `within` points below vanilla's, the one with the lowest recalled share;
    where there is none of those, the one with the highest utility minus recalled share. The first in the list of
    equals.

    Attributes:
        within: Points (per cent) of utility that may be lost.
        forget: Set on which the recalled share is measured, both modalities together.
        tasks: Of that set.
        utility: Sets whose accuracies (all tasks and modalities together) make the utility, each counting alike.
    """

    within: float = Field(default=5, ge=0)
    forget: str = "forget"
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("generation", "cloze")
    utility: Names = ("retain_heldout", "celebrity", "general", "perception")

    @property
    def sets(self) -> tuple[str, ...]:
        """Everything that is asked."""
        return tuple(dict.fromkeys((self.forget, *self.utility)))


class Tried(Strict):
    """A method and its candidates: either a grid or a list.

    Attributes:
        method: Of the registry.
        variant: Of a method that has variants.
        settings: What all candidates share.
        grid: Setting -> values; every combination is a candidate, the last setting changing fastest.
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
        """What the candidates differ in, in order."""
        if self.grid is None:
            return list(self.candidates or ())
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    def _entry(self, **more: Any) -> MethodEntry:
        return MethodEntry(method=self.method, variant=self.variant, **more)

    def entry(self, varied: Mapping[str, Any]) -> MethodEntry:
        """A candidate as a row of a comparison."""
        return self._entry(settings=merged(self.settings, varied), label=f"{self.title}: {described(varied)}")


class SearchSpace(Strict):
    """What is tried, on whom, and what counts.

    Attributes:
        name: Of the search.
        model: The model; a bare name stands for an entry with that name.
        benchmark: As in a recipe.
        training: As in a recipe.
        protocol: As in a recipe.
        split: How many people are forgotten.
        fold: Which: the validation fold. Never 0, on which tables with one fold are made.
        test_folds: Folds that tables are made on.
        seeds: Each candidate is made with each; its figures are means.
        sets: Set of the criterion -> at most so many samples of each task and modality (None, or not stated: all).
        limit: At most so many in sets that state nothing themselves.
        batch_size: Prompts in a batch when answers are scored.
        budget: Candidates of every method.
        criterion: Which of them is taken.
        methods: What is tried.
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

    @field_validator("model", mode="before")
    @classmethod
    def _bare_name(cls, entry: Any) -> Any:
        return {"name": entry} if isinstance(entry, str) else entry

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
        """The comparison that asks every candidate; nothing of what it makes stays."""
        return Recipe(
            name=self.name,
            models=(self.model,),
            benchmark=self.benchmark,
            training=self.training,
            protocol=self.protocol,
            splits={self.split: (self.fold,)},
            seeds=self.seeds,
            sets={name: self.sets.get(name) for name in self.criterion.sets},
            limit=self.limit,
            methods=tuple(tried.entry(varied) for tried in self.methods for varied in tried.varied()),
            batch_size=self.batch_size,
            keep_products=False,
            activations=0,
        )


@dataclass(frozen=True)
class Candidate:
    """One setting of one method.

    Attributes:
        title: Method and variant.
        name: What it differs in, in words.
        settings: As a recipe would state them.
        row: As it is run.
    """

    title: str
    name: str
    settings: Mapping[str, Any]
    row: Row


def read_space(path: str | Path) -> SearchSpace:
    """Read a search space.

    Raises:
        InputError: The file cannot be read, a key is unknown, a value does not fit, methods have different numbers of
            candidates, or the fold is a test fold.
    """
    parts: dict[str, type[BaseModel]] = {"model": ModelEntry, "methods": Tried, "criterion": Criterion}
    return fitted(SearchSpace, read_mapping(Path(path)), path, parts)


def candidates_of(space: SearchSpace) -> list[Candidate]:
    """All candidates in order.

    Raises:
        InputError: A method, variant or setting does not exist, or a method has one candidate twice.
    """
    found: list[Candidate] = []
    for tried in space.methods:
        mine: list[Candidate] = []
        for varied in tried.varied():
            entry = tried.entry(varied)
            row = row_of(entry)
            same = next((one for one in mine if one.row.settings == row.settings), None)
            if same is not None:
                raise InputError(
                    f"{row.label} is the same as {same.name}: a candidate that counts twice is no candidate"
                )
            mine.append(Candidate(tried.title, described(varied), entry.settings, row))
        found += mine
    return found


def described(varied: Mapping[str, Any]) -> str:
    """What a candidate differs in, in words."""
    parts = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in varied.items())
    return ", ".join(parts) or "as shared"
