"""The figures of a study: recall of the forgotten people, outcomes of their answers, accuracy on the other sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from mllmeraser.benchmarks import Benchmark
from mllmeraser.evaluation import Item, evaluate
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.models import Intervention, MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.samples.progress import Count

OPEN = ("generation", "cloze")
CELLS = tuple((modality, task) for modality in ("image", "text") for task in (*OPEN, "classification"))
Share = dict[str, float]
Sets = Mapping[str, Sequence[Sample]]


class AnswerCache:
    """A bare model that answers each question once and repeats the stored answer afterwards."""

    def __init__(self, model: MultimodalModel) -> None:
        self.name, self._model = model.name, model
        self._answers: dict[tuple[str, int], str] = {}

    def generate(
        self, samples: Sequence[Sample], *, max_new_tokens: int, batch_size: int = 32, progress: Count | None = None
    ) -> list[str]:
        """The answers to samples, in their order."""
        keys = [(sample.digest(), max_new_tokens) for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._answers}
        answers = self._model.generate(list(new.values()), max_new_tokens=max_new_tokens, batch_size=batch_size)
        self._answers.update(zip(new, answers, strict=True))
        if progress is not None:
            progress(len(samples))
        return [self._answers[key] for key in keys]


Answering = MultimodalModel | AnswerCache


def ask(
    model: Answering, benchmark: Benchmark, sets: Sets, intervention: Intervention | None, *, split: str, seed: int = 0
) -> list[Item]:
    """Answer and judge every sample of ``sets`` with ``intervention`` attached."""
    result = evaluate(
        cast(MultimodalModel, model), sets, method="study", benchmark=benchmark.name, split=split, seed=seed,
        intervention=intervention, values=benchmark.values, vocabulary=benchmark.vocabulary,
    )  # fmt: skip
    return result.items


def share_of(hits: Sequence[bool], people: Sequence[Hashable], *, seed: int = 0) -> Share:
    """Share of true values, its 95 % interval over people, and their number."""
    interval = share_interval(hits, people, seed=seed)
    return {"share": sum(hits) / len(hits), "low": interval.low, "high": interval.high, "n": len(hits)}


def share(
    items: Sequence[Item], name: str, *, modality: str | None = None, tasks: Sequence[str] | None = None, seed: int = 0
) -> Share:
    """Share of right answers of a set, as `share_of`."""
    chosen = [
        i for i in items
        if i["set"] == name and modality in (None, i["modality"]) and (tasks is None or i["task"] in tasks)
    ]  # fmt: skip
    return share_of([i["correct"] for i in chosen], [i["subject"] or i["id"] for i in chosen], seed=seed)


def by_cell(items: Sequence[Item], name: str, *, seed: int = 0) -> dict[str, Share]:
    """`share` of a set for each of its modalities and tasks."""
    there = {(i["modality"], i["task"]) for i in items if i["set"] == name}
    return {f"{m}/{t}": share(items, name, modality=m, tasks=[t], seed=seed) for m, t in CELLS if (m, t) in there}


def outcomes(items: Sequence[Item], name: str) -> dict[str, int]:
    """Number of answers of a set by outcome."""
    return dict(Counter(i["outcome"] for i in items if i["set"] == name))


def summary(items: Sequence[Item], *, forgotten: str = "test", seed: int = 0) -> dict[str, Any]:
    """The figures of one row of a study.

    `recalled` is the recall of the forgotten people in generation and cloze, `letters` that by letter. `kept` is the
    share of right answers for each other set.
    """
    others = list(dict.fromkeys(i["set"] for i in items if i["set"] != forgotten))
    return {
        "recalled": share(items, forgotten, tasks=OPEN, seed=seed),
        "letters": share(items, forgotten, tasks=["classification"], seed=seed),
        "outcomes": outcomes(items, forgotten),
        "kept": {name: share(items, name, seed=seed) for name in others},
    }
