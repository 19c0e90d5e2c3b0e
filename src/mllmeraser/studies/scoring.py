"""What studies count: how much of the forgotten is recalled, how those answers end, what the rest keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

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


class Remembers:
    """A bare model that is asked every question once; its answers to it are given again."""

    def __init__(self, model: MultimodalModel) -> None:
        """Nothing is known yet."""
        self.name, self._model = model.name, model
        self._said: dict[tuple[str, int], str] = {}

    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int,
        batch_size: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        """The answers to samples, in their order."""
        keys = [(sample.digest(), max_new_tokens) for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._said}
        asked = self._model.generate(list(new.values()), max_new_tokens=max_new_tokens, batch_size=batch_size)
        self._said.update(zip(new, asked, strict=True))
        if progress is not None:
            progress(len(samples))
        return [self._said[key] for key in keys]


def told(
    model: MultimodalModel | Remembers,
    benchmark: Benchmark,
    sets: Mapping[str, Sequence[Sample]],
    intervention: Intervention | None,
    *,
    split: str,
    seed: int = 0,
) -> list[Item]:
    """Every answer to ``sets``, judged; ``intervention`` is attached meanwhile."""
    result = evaluate(
        cast(MultimodalModel, model), sets, method="study", benchmark=BENCHMARK, split=split, seed=seed,
        intervention=intervention, values=benchmark.values, vocabulary=benchmark.vocabulary,
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
