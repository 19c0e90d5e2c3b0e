"""The runner: ask a model every sample of every set, judge the answers, count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING

from mllmeraser.evaluation.context import shots_of
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.evaluation.outcomes import OUTCOMES, Values, judge, values_of
from mllmeraser.evaluation.protocols import PROTOCOLS, Protocol
from mllmeraser.evaluation.records import DEFAULT_PROTOCOL, EvaluationResult, Item, OptionRecord, Record
from mllmeraser.evaluation.scores import (
    OptionChoice,
    OptionRule,
    generation_scores,
    official_correct,
    option_choices,
    rouge_l,
)
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import require_answers
from mllmeraser.samples.sample import Modality, Sample, Task

if TYPE_CHECKING:
    from mllmeraser.models.intervention import Intervention
    from mllmeraser.models.model import MultimodalModel

Cell = tuple[str, Modality, Task]
IMPERSONAL = frozenset({"general", "perception", "refusal", "restricted", "benign"})
"""Sets that are not about what somebody's facts are: there, no answer is another person's."""


@dataclass(frozen=True)
class _Run:
    """What stays the same over all cells of an evaluation."""

    method: str
    preset: str | None
    model: str
    benchmark: str
    split: str
    seed: int
    policy: str | None
    values: Values
    vocabulary: Collection[str] | None
    protocol: Protocol


def evaluate(
    model: MultimodalModel,
    sets: Mapping[str, Sequence[Sample]],
    *,
    method: str,
    benchmark: str,
    split: str,
    preset: str | None = None,
    intervention: Intervention | None = None,
    values: Values | None = None,
    vocabulary: Collection[str] | None = None,
    policy: str | None = None,
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL],
    options: OptionRule | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Score a model on sets of samples, one record for each set, modality and task.

    Args:
        model: The model.
        sets: Samples by name of the set (`Benchmark.sets`, or what `protocol` makes of them); empty sets give no
            record.
        method: Name of the method in the records.
        benchmark: Name of the benchmark in the records.
        split: Name of the split in the records.
        preset: Name of the preset in the records.
        intervention: Attached for the evaluation, detached after it, also when it fails.
        values: Values by attribute (`Benchmark.values`), to tell another person's facts from mere errors;
            None: those of the gold answers in `sets`.
        vocabulary: Words a sane answer is made of (`Benchmark.vocabulary`), where the model's world is
            closed.
        policy: Name of the policy in the records; None: that of the intervention's config, if it has one.
        protocol: How answers are counted; stated in the records.
        options: Also score classification by option likelihood, by letter or by text; None: as `protocol` says.
        max_new_tokens: Longest answer; None: as `protocol` says.
        batch_size: Prompts in a batch; fewer where other items stand before the question.
        seed: Of the bootstrap; also stated in the records.
        progress: Called with the number of answers that have just been finished.

    Raises:
        InputError: Nothing to score, a sample without an answer, or two samples of a set with one id.
    """
    cells = _cells(sets)
    require_answers(sample for group in cells.values() for sample in group)
    about_people = (s for (name, _, _), group in cells.items() if name not in IMPERSONAL for s in group)
    run = _Run(
        method=method,
        preset=preset,
        model=model.name,
        benchmark=benchmark,
        split=split,
        seed=seed,
        policy=policy or _policy_name(intervention),
        values=values if values is not None else values_of(about_people),
        vocabulary=vocabulary,
        protocol=protocol,
    )
    options = options or protocol.options
    longest = protocol.max_new_tokens if max_new_tokens is None else max_new_tokens
    reader = _reader(model, cells)
    result = EvaluationResult()
    with nullcontext() if intervention is None else intervention.attached(model):
        for cell, samples in cells.items():
            rows = max(1, batch_size // (1 + max(len(shots_of(sample)) for sample in samples)))
            started = time.perf_counter()
            answers = reader.generate(samples, max_new_tokens=longest, batch_size=rows, progress=progress)
            seconds = time.perf_counter() - started
            items = _items(run, cell, samples, answers)
            if options is not None and cell[2] == "classification":
                choices = option_choices(reader, samples, rule=options)
                for item, choice in zip(items, choices, strict=True):
                    item["option_letter"], item["option_correct"] = choice.letter, choice.correct
                    item["scores"] |= {
                        "option_accuracy": float(choice.correct),
                        "option_probability": choice.probability,
                    }
                result.options.append(_option_record(run, cell, samples, choices, options))
            result.items += items
            result.records.append(_record(run, cell, items, seconds))
    return result


def _reader(model: MultimodalModel, cells: Mapping[Cell, Sequence[Sample]]) -> MultimodalModel:
    """The model, reading what stands before the questions where something does."""
    if not any(shots_of(sample) for group in cells.values() for sample in group):
        return model
    # Most evaluations show nothing, and what asks for no model is to import without torch.
    from mllmeraser.evaluation.context_prompts import reading_context

    return reading_context(model)


def _cells(sets: Mapping[str, Sequence[Sample]]) -> dict[Cell, list[Sample]]:
    cells: dict[Cell, list[Sample]] = {}
    for name, samples in sets.items():
        named = [s if s.id else replace(s, id=f"{name}/{index}") for index, s in enumerate(samples)]
        twice = [key for key, count in Counter(s.id for s in named).items() if count > 1]
        if twice:
            raise InputError(f"set {name}: {len(twice)} id(s) occur twice, the first is {twice[0]!r}")
        for sample in named:
            cells.setdefault((name, sample.modality, sample.task), []).append(sample)
    if not cells:
        raise InputError("nothing to evaluate: every set is empty")
    return cells


def _items(run: _Run, cell: Cell, samples: Sequence[Sample], answers: Sequence[str]) -> list[Item]:
    name, modality, task = cell
    values = {} if name in IMPERSONAL else run.values
    items = []
    for sample, answer in zip(samples, answers, strict=True):
        judged = judge(sample, answer, values, run.vocabulary)
        scored = task != "classification" and sample.answer is not None
        by_rule = run.protocol.official and task != "generation"
        told = run.protocol.official and task == "generation"
        items.append(
            Item(
                id=sample.id,
                set=name,
                task=task,
                modality=modality,
                subject=sample.subject,
                answer=answer,
                outcome=judged.outcome,
                correct=official_correct(sample, answer) if by_rule else judged.correct,
                reason=judged.reason,
                rouge_l=rouge_l(answer, sample.answer or "") if scored else None,
                scores=generation_scores(answer, sample.answer or "") if told else {},
                option_letter=None,
                option_correct=None,
            )
        )
    return items


def _record(run: _Run, cell: Cell, items: Sequence[Item], seconds: float) -> Record:
    correct = [item["correct"] for item in items]
    people = [item["subject"] or item["id"] for item in items]
    interval = share_interval(correct, people, seed=run.seed)
    rouge = [item["rouge_l"] for item in items if item["rouge_l"] is not None]
    counts = Counter(item["outcome"] for item in items)
    return Record(
        method=run.method,
        preset=run.preset,
        model=run.model,
        benchmark=run.benchmark,
        split=run.split,
        set=cell[0],
        modality=cell[1],
        task=cell[2],
        n=len(items),
        people=len(set(people)),
        accuracy=sum(correct) / len(correct),
        ci_low=interval.low,
        ci_high=interval.high,
        rouge_l=fsum(rouge) / len(rouge) if rouge else None,
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        seed=run.seed,
        policy=run.policy,
        seconds=seconds,
        protocol=run.protocol.id,
        scores=_means(items),
    )


def _means(items: Sequence[Item]) -> dict[str, float]:
    names = dict.fromkeys(name for item in items for name in item["scores"])
    return {name: fsum(item["scores"][name] for item in items) / len(items) for name in names}


def _option_record(
    run: _Run, cell: Cell, samples: Sequence[Sample], choices: Sequence[OptionChoice], rule: OptionRule
) -> OptionRecord:
    correct = [choice.correct for choice in choices]
    interval = share_interval(correct, [sample.subject or sample.id for sample in samples], seed=run.seed)
    return OptionRecord(
        method=run.method,
        preset=run.preset,
        set=cell[0],
        modality=cell[1],
        rule=rule,
        n=len(choices),
        accuracy=sum(correct) / len(correct),
        ci_low=interval.low,
        ci_high=interval.high,
        probability=fsum(choice.probability for choice in choices) / len(choices),
    )


def _policy_name(intervention: Intervention | None) -> str | None:
    policy = getattr(getattr(intervention, "config", None), "policy", None)
    name = policy if isinstance(policy, str) else getattr(policy, "name", None)
    return name if isinstance(name, str) else None
