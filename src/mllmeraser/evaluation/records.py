"""What an evaluation leaves behind: one record for each cell of the score table, and every single answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mllmeraser.evaluation.outcomes import Outcome
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.sample import Modality, Task

DEFAULT_PROTOCOL = "portraits"


class Record(BaseModel):
    """One cell of `scores.json`: a method on one set, modality and task.

    Attributes:
        method: vanilla, retain-only, mllmeraser, detached, ...
        preset: default, paper, ...; null where there is none.
        model: Name of the model.
        benchmark: Name of the benchmark.
        split: forget_5, ...
        set: forget, test, retain, retain_heldout, celebrity, general, perception, holdout, ...
        modality: image or text.
        task: classification, generation or cloze.
        n: Items.
        people: Different subjects among them.
        accuracy: Share recalled; for sets whose right answer is another (refusal), share correct. Under an
            official protocol by the published rule where it has one (classification, cloze).
        ci_low: Lower end of the 95 % interval of `accuracy` (see `intervals.share_interval`).
        ci_high: Its upper end.
        rouge_l: Mean ROUGE-L F-measure against the gold answers; null for classification.
        outcomes: Items by outcome.
        seed: Seed of the run and of the bootstrap.
        policy: Policy of the intervention; null where there is none.
        seconds: Time spent on the answers of this cell.
        protocol: Id of the protocol (see `protocols`); files written before there were others are `portraits`.
        scores: Further means over the items of the cell, where the protocol has them: rouge_1, rouge_2 and bleu
            of generation; option_accuracy and option_probability of classification.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    preset: str | None
    model: str
    benchmark: str
    split: str
    set: str
    modality: Modality
    task: Task
    n: int = Field(ge=1)
    people: int = Field(ge=1)
    accuracy: float = Field(ge=0, le=1)
    ci_low: float = Field(ge=0, le=1)
    ci_high: float = Field(ge=0, le=1)
    rouge_l: float | None
    outcomes: dict[Outcome, int]
    seed: int
    policy: str | None
    seconds: float = Field(ge=0)
    protocol: str = DEFAULT_PROTOCOL
    scores: dict[str, float] = Field(default_factory=dict)


class OptionRecord(BaseModel):
    """Option likelihood in one cell of classification: does the model still rank the right option first?

    Attributes:
        rule: letter or text (see `scores.option_choices`).
        accuracy: Share of items whose right option is the most likely.
        ci_low: Lower end of its 95 % interval.
        ci_high: Its upper end.
        probability: Mean probability of the right option among the options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    preset: str | None
    set: str
    modality: Modality
    rule: str
    n: int
    accuracy: float
    ci_low: float
    ci_high: float
    probability: float


class Item(TypedDict):
    """One answer and how it was judged: a line of the items file, which tells what was said about people."""

    id: str
    set: str
    task: Task
    modality: Modality
    subject: str | None
    answer: str
    outcome: Outcome
    correct: bool
    reason: str
    rouge_l: float | None
    scores: dict[str, float]
    option_letter: str | None
    option_correct: bool | None


@dataclass
class EvaluationResult:
    """Records, items, and option likelihoods where they were asked for."""

    records: list[Record] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    options: list[OptionRecord] = field(default_factory=list)

    def __add__(self, other: EvaluationResult) -> EvaluationResult:
        return EvaluationResult(self.records + other.records, self.items + other.items, self.options + other.options)

    def write_scores(self, path: str | Path, *, force: bool = False) -> None:
        """Write `scores.json` (the records alone), whole or not at all."""
        write_scores(path, self.records, force=force)

    def write_items(self, path: str | Path, *, force: bool = False) -> None:
        """Write every item as a line of JSON, whole or not at all."""
        lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in self.items)
        write_whole(Path(path), "".join(lines), force=force)

    def write_options(self, path: str | Path, *, force: bool = False) -> None:
        """Write the option likelihoods as a list of JSON objects, whole or not at all."""
        write_whole(Path(path), _listed(self.options), force=force)


def write_scores(path: str | Path, records: Iterable[Record], *, force: bool = False) -> None:
    """Write records as `scores.json`, whole or not at all.

    Raises:
        InputError: Something stands at `path` and `force` is off, or it cannot be written.
    """
    write_whole(Path(path), _listed(list(records)), force=force)


def read_scores(path: str | Path) -> list[Record]:
    """Read a `scores.json`.

    Raises:
        InputError: The file is missing or is no list of records.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a readable score file ({error})") from None
    if not isinstance(data, list):
        raise InputError(f"{path}: a score file is a list of records")
    try:
        return [Record.model_validate(entry) for entry in data]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: not a score record ({place}: {first['msg']})") from None


def _listed(models: Sequence[BaseModel]) -> str:
    return json.dumps([model.model_dump() for model in models], indent=1, ensure_ascii=False) + "\n"
