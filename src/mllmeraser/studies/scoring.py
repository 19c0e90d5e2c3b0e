"""What studies count: how much of the forgotten is recalled, how those answers end, what the rest keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.evaluation.records import Item
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample

OPEN = ("generation", "cloze")
CELLS = tuple((modality, task) for modality in ("image", "text") for task in (*OPEN, "classification"))
Share = dict[str, float]


def told(
    model: MultimodalModel,
    benchmark: Benchmark,
    sets: Mapping[str, Sequence[Sample]],
    intervention: Intervention | None,
    *,
    split: str,
    seed: int = 0,
) -> list[Item]:
    """Every answer to ``sets``, judged; ``intervention`` is attached meanwhile."""
    result = evaluate(
        model, sets, method="study", benchmark=BENCHMARK, split=split, intervention=intervention, seed=seed,
        values=benchmark.values, vocabulary=benchmark.vocabulary,
    )  # fmt: skip
    return result.items


def share(
    items: Sequence[Item],
    name: str,
    *,
    modality: str | None = None,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
) -> Share:
    """Share of right answers of a set with its 95 % interval (people are drawn), and their number."""
    chosen = [
        i for i in items
        if i["set"] == name and modality in (None, i["modality"]) and (tasks is None or i["task"] in tasks)
    ]  # fmt: skip
    right = [i["correct"] for i in chosen]
    interval = share_interval(right, [i["subject"] or i["id"] for i in chosen], seed=seed)
    return {"share": sum(right) / len(right), "low": interval.low, "high": interval.high, "n": len(right)}


def by_cell(items: Sequence[Item], name: str, *, seed: int = 0) -> dict[str, Share]:
    """`share` of a set for each modality and task that it has."""
    there = {(i["modality"], i["task"]) for i in items if i["set"] == name}
    return {f"{m}/{t}": share(items, name, modality=m, tasks=[t], seed=seed) for m, t in CELLS if (m, t) in there}


def outcomes(items: Sequence[Item], name: str) -> dict[str, int]:
    """How the answers to a set ended, counted."""
    return dict(Counter(i["outcome"] for i in items if i["set"] == name))


def summary(items: Sequence[Item], *, forgotten: str = "test", seed: int = 0) -> dict[str, Any]:
    """The figures of one row of a study.

    Recall of the forgotten in generation and cloze (`recalled`) and by letter (`letters`), outcomes of all their
    answers, and for each other set the share of right answers (`kept`).
    """
    others = list(dict.fromkeys(i["set"] for i in items if i["set"] != forgotten))
    return {
        "recalled": share(items, forgotten, tasks=OPEN, seed=seed),
        "letters": share(items, forgotten, tasks=["classification"], seed=seed),
        "outcomes": outcomes(items, forgotten),
        "kept": {name: share(items, name, seed=seed) for name in others},
    }
