"""What the report shows, as plain data: no model, no tensor, no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OUTCOMES = ("recalled", "unknown", "refused", "wrong", "other-person", "gibberish")
"""Outcome classes in the order of the bars: recalled, then forgotten cleanly, then answers that went wrong."""


@dataclass(frozen=True)
class QA:
    """One question about one person, answered three times.

    Attributes:
        question: As put to the model, with its options.
        gold: The answer that the model was taught.
        before: The bare model's answer.
        after: The answer with the eraser attached.
        detached: The answer after detaching it.
        before_outcome: Outcome class of `before`.
        after_outcome: Outcome class of `after`.
        modality: `"image"` or `"text"` (the question names the person).
    """

    question: str
    gold: str
    before: str
    after: str
    detached: str
    before_outcome: str
    after_outcome: str
    modality: str = "image"

    @property
    def restored(self) -> bool:
        """Whether detaching gave exactly the bare model's answer again."""
        return self.detached == self.before


@dataclass(frozen=True)
class PersonCard:
    """One person of the demo.

    Attributes:
        image: The portrait, contents of a PNG file.
        name: Shown under the portrait.
        qa: Questions and answers.
        look: The portrait in words, for screen readers, for example `"red hat, glasses"`.
    """

    image: bytes
    name: str
    qa: tuple[QA, ...]
    look: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """One record of scores.json: one method on one set, in one modality and task."""

    method: str
    set: str
    modality: str
    task: str
    n: int
    accuracy: float
    ci_low: float
    ci_high: float
    outcomes: Mapping[str, int] = field(default_factory=dict)
    preset: str | None = None
    people: int | None = None

    @property
    def label(self) -> str:
        """Column label: the method and its preset."""
        return self.method if self.preset is None else f"{self.method}, {self.preset}"

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ScoreRow:
        """Copy the fields of a record of scores.json that the table needs."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


@dataclass(frozen=True)
class GatePanel:
    """One figure of gate scores: one layer, or the pooled decision.

    Attributes:
        title: For example `"layer 2"` or `"decision: layers 2 and 3 pooled"`.
        readings: Scores by group, for example `{"forget": ..., "retain": ..., "strangers": ...}`.
        threshold: The eraser acts at this score or above; None for a layer that decides nothing alone.
        auc: Area under the ROC curve of forget against retain, if measured.
    """

    title: str
    readings: Mapping[str, tuple[float, ...]]
    threshold: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class FalseAlarms:
    """Retain prompts on which the gate fired: the calibrated rate, and the count on prompts that were not fitted."""

    stated: float
    fired: int
    n: int
    ci_low: float
    ci_high: float

    @property
    def measured(self) -> float:
        """Share of the prompts on which the gate fired."""
        return self.fired / self.n if self.n else 0.0


@dataclass(frozen=True)
class Timing:
    """Duration of one stage in seconds, and whether it counts towards the fit time."""

    stage: str
    seconds: float
    part_of_fit: bool = False


@dataclass(frozen=True)
class ArtifactFacts:
    """The eraser on disk."""

    folder: str
    bytes: int
    subjects: int
    hidden_size: int
    num_layers: int
    read_layers: tuple[int, ...]
    shift_layers: tuple[int, ...]
    policy: str
    gate: str
    direction: str
    strength: float
    threshold: float | None
    fingerprint: str = ""

    @property
    def dense_bytes(self) -> int:
        """Bytes of the form in the paper: one float32 d x d matrix per layer."""
        return 4 * self.hidden_size**2 * self.num_layers


@dataclass(frozen=True)
class DemoResult:
    """Everything the page shows.

    Attributes:
        model: Name of the model.
        benchmark: For example `"portraits:dev"`.
        split: For example `"forget_5"`.
        people: Number of people the model knows.
        forgotten: Cards of forgotten people.
        retained: Cards of people that the eraser must not affect.
        scores: All records, every method.
        gates: Panels, the decision first.
        timings: Stages in order.
        artifact: The eraser on disk.
        detached_identical: Whether logits after detaching equal the bare model's to the bit; None if not measured.
        false_alarms: On prompts that were not fitted.
        parameters: Number of weights of the model.
        seed: Of the run.
        created: Date and time, ISO 8601.
        version: Of this package.
        notes: Lines below the tables, for example which default sets were used.
    """

    model: str
    benchmark: str
    split: str
    people: int
    forgotten: tuple[PersonCard, ...]
    retained: tuple[PersonCard, ...]
    scores: tuple[ScoreRow, ...]
    gates: tuple[GatePanel, ...]
    timings: tuple[Timing, ...]
    artifact: ArtifactFacts
    detached_identical: bool | None = None
    false_alarms: FalseAlarms | None = None
    parameters: int | None = None
    seed: int = 0
    created: str = ""
    version: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fit_seconds(self) -> float:
        """Seconds of the stages that belong to the fit."""
        return sum(timing.seconds for timing in self.timings if timing.part_of_fit)
