"""The runner: ask a model every sample of every set, judge the answers, count the outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING, Any

from mllmeraser.evaluation.few_shot import shots_of
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.evaluation.outcomes import OUTCOMES, Values, judge, values_of
from mllmeraser.evaluation.protocols import PROTOCOLS, Protocol
from mllmeraser.evaluation.records import DEFAULT_PROTOCOL, EvaluationResult, Item, Record
from mllmeraser.evaluation.scores import OptionRule, generation_scores, official_correct, option_choices, rouge_l
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import require_answers
from mllmeraser.samples.sample import Modality, Sample, Task

if TYPE_CHECKING:
    from mllmeraser.models.intervention import Intervention
    from mllmeraser.models.model import MultimodalModel

Cell = tuple[str, Modality, Task]
IMPERSONAL_SETS = frozenset({"general", "perception", "refusal", "restricted", "benign"})
"""Sets without personal facts: no answer there can be another person's."""


@dataclass(frozen=True)
class _Run:
    """Constants of an evaluation; `labels` are the fields that all its records share."""

    labels: Mapping[str, Any]
    seed: int
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
        sets: Samples by name of the set (`Benchmark.sets`, or the protocol's version of them). Empty sets get no
            record.
        method: Name of the method in the records.
        benchmark: Name of the benchmark in the records.
        split: Name of the split in the records.
        preset: Name of the preset in the records.
        intervention: Attached for the evaluation, then detached, also after an error.
        values: Values by attribute (`Benchmark.values`), to tell another person's facts from other errors;
            None: those of the gold answers in `sets`.
        vocabulary: Words of sensible answers (`Benchmark.vocabulary`), if the model's world is closed.
        policy: Name of the policy in the records; None: that of the intervention's config, if any.
        protocol: The rules of counting, stated in the records.
        options: Also score classification by option likelihood, by letter or by text; None: as `protocol` says.
        max_new_tokens: Longest answer; None: as `protocol` says.
        batch_size: Prompts in a batch; fewer if items in context come before the question.
        seed: Seed of the bootstrap, stated in the records.
        progress: Called with the number of newly finished answers.

    Raises:
        InputError: Nothing to score, a sample without an answer, or two samples of a set with one id.
    """
    cells = _cells(sets)
    require_answers(sample for group in cells.values() for sample in group)
    if values is None:
        personal = (group for (name, _, _), group in cells.items() if name not in IMPERSONAL_SETS)
        values = values_of(sample for group in personal for sample in group)
    labels: dict[str, Any] = {
        "method": method, "preset": preset, "model": model.name, "benchmark": benchmark, "split": split,
    }  # fmt: skip
    labels |= {"seed": seed, "policy": policy or _policy_name(intervention), "protocol": protocol.id}
    run = _Run(labels, seed, values, vocabulary, protocol)
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
            items = [_item(run, cell, sample, answer) for sample, answer in zip(samples, answers, strict=True)]
            if options is not None and cell[2] == "classification":
                for item, choice in zip(items, option_choices(reader, samples, rule=options), strict=True):
                    item["option_letter"], item["option_correct"] = choice.letter, choice.correct
                    item["scores"] |= {
                        "option_accuracy": float(choice.correct),
                        "option_probability": choice.probability,
                    }
            result.items += items
            result.records.append(_record(run, cell, items, seconds))
    return result


def _reader(model: MultimodalModel, cells: Mapping[Cell, Sequence[Sample]]) -> MultimodalModel:
    """The model, or one that reads the shots of samples if there are any."""
    if not any(shots_of(sample) for group in cells.values() for sample in group):
        return model
    # Imported here, because this module must import without torch.
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


def _item(run: _Run, cell: Cell, sample: Sample, answer: str) -> Item:
    name, modality, task = cell
    judged = judge(sample, answer, {} if name in IMPERSONAL_SETS else run.values, run.vocabulary)
    gold = sample.answer if task != "classification" else None
    official = run.protocol.official
    return Item(
        id=sample.id,
        set=name,
        task=task,
        modality=modality,
        subject=sample.subject,
        answer=answer,
        outcome=judged.outcome,
        correct=official_correct(sample, answer) if official and task != "generation" else judged.correct,
        reason=judged.reason,
        rouge_l=None if gold is None else rouge_l(answer, gold),
        scores=generation_scores(answer, sample.answer or "") if official and task == "generation" else {},
        option_letter=None,
        option_correct=None,
    )


def _record(run: _Run, cell: Cell, items: Sequence[Item], seconds: float) -> Record:
    correct = [item["correct"] for item in items]
    people = [item["subject"] or item["id"] for item in items]
    interval = share_interval(correct, people, seed=run.seed)
    rouge = [item["rouge_l"] for item in items if item["rouge_l"] is not None]
    counts = Counter(item["outcome"] for item in items)
    scores = dict.fromkeys(name for item in items for name in item["scores"])
    return Record(
        **run.labels,
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
        seconds=seconds,
        scores={name: fsum(item["scores"][name] for item in items) / len(items) for name in scores},
    )


def _policy_name(intervention: Intervention | None) -> str | None:
    policy = getattr(getattr(intervention, "config", None), "policy", None)
    name = policy if isinstance(policy, str) else getattr(policy, "name", None)
    return name if isinstance(name, str) else None
