"""What an evaluation leaves behind: one record for each cell of the score table, and every single answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mllmeraser.evaluation.outcomes import Outcome
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.sample import Modality, Task
from mllmeraser.samples.validation import first_fault

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
        accuracy: Share recalled; in sets with another right answer (refusal), share correct. An official protocol
            uses the published rule if there is one (classification, cloze).
        ci_low: Lower end of the 95 % interval of `accuracy` (see `intervals.share_interval`).
        ci_high: Its upper end.
        rouge_l: Mean ROUGE-L F-measure against the gold answers; null for classification.
        outcomes: Items by outcome.
        seed: Seed of the run and of the bootstrap.
        policy: Policy of the intervention; null where there is none.
        seconds: Time spent on the answers of this cell.
        protocol: Id of the protocol (see `protocols`); older files without one are `portraits`.
        scores: Further means over the items, if the protocol has them: rouge_1, rouge_2 and bleu of generation;
            option_accuracy and option_probability of classification.
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


class Item(TypedDict):
    """One answer and its judgement: a line of the items file, which holds the answers about people."""

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
    """Records and items."""

    records: list[Record] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def __add__(self, other: EvaluationResult) -> EvaluationResult:
        return EvaluationResult(self.records + other.records, self.items + other.items)

    def write_scores(self, path: str | Path, *, force: bool = False) -> None:
        """Write `scores.json` (the records alone), whole or not at all."""
        write_scores(path, self.records, force=force)

    def write_items(self, path: str | Path, *, force: bool = False) -> None:
        """Write every item as a line of JSON, whole or not at all."""
        lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in self.items)
        write_whole(Path(path), "".join(lines), force=force)


def write_scores(path: str | Path, records: Iterable[Record], *, force: bool = False) -> None:
    """Write records as `scores.json`, whole or not at all.

    Raises:
        InputError: `path` exists and `force` is off, or it is not writable.
    """
    content = json.dumps([record.model_dump() for record in records], indent=1, ensure_ascii=False) + "\n"
    write_whole(Path(path), content, force=force)


def read_scores(path: str | Path) -> list[Record]:
    """Read a `scores.json`.

    Raises:
        InputError: The file is missing or is not a list of records.
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
        raise InputError(f"{path}: not a score record ({first_fault(error, 'record')})") from None
