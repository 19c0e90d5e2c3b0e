"""The stage of one model, split and fold: its sets, its tasks, and running one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from mllmeraser.benchmarks.benchmark import Benchmark, thin
from mllmeraser.comparison import activations
from mllmeraser.comparison.cells import Cell, Task, digest_of, sets_digest
from mllmeraser.comparison.making import Made, Requests, make, size_of
from mllmeraser.comparison.recipe import ModelEntry, Recipe
from mllmeraser.comparison.rows import HOOK_OFF, OURS, RETAIN_ONLY, VANILLA, Row, seeds_of
from mllmeraser.comparison.twin import NoTwin, Recital, Twin, answered_sets, find_twin
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.evaluation.protocols import Protocol
from mllmeraser.evaluation.records import EvaluationResult
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import Prompts
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample
from mllmeraser.version import __version__


class LeftTraceError(MLLMEraserError):
    """A model does not answer as before once everything has been taken off it."""


@dataclass(frozen=True)
class Setting:
    """What all cells of a comparison share."""

    recipe: Recipe
    rows: tuple[Row, ...]
    benchmark: Benchmark
    protocol: Protocol
    out: Path


@dataclass(frozen=True, eq=False)
class Stage:
    """One loaded model on one split and fold."""

    setting: Setting
    entry: ModelEntry
    model: MultimodalModel
    fingerprint: str
    split: str
    fold: int

    @cached_property
    def sets(self) -> dict[str, list[Sample]]:
        """What every row is asked."""
        recipe, protocol, benchmark = self.setting.recipe, self.setting.protocol, self.setting.benchmark
        read = protocol.read(benchmark, self.split, self.fold, names=recipe.sets)
        asked = protocol.with_context(read, benchmark, self.split, self.fold, family=self.model.family.name)
        limits = {name: (recipe.sets or {}).get(name) or recipe.limit for name in asked}
        return {
            name: samples if (most := limits[name]) is None else thin(samples, most) for name, samples in asked.items()
        }

    @cached_property
    def requests(self) -> Requests:
        """What is to be forgotten; the sets added to it are those of the first seed."""
        return Requests(self.setting.benchmark, self.split, self.fold, self.setting.recipe.seeds[0])

    @cached_property
    def twin(self) -> Twin | str:
        """The retain-only twin, or why there is none."""
        try:
            return find_twin(self.entry, self.setting.benchmark.name, self.setting.protocol.id, self.split, self.fold)
        except NoTwin as error:
            return str(error)

    def tasks(self) -> Iterator[Task]:
        """The cells of this stage in the order in which they are run."""
        recipe = self.setting.recipe
        forgotten = sets_digest({"forget": self.setting.benchmark.samples("forget", self.split, self.fold)})
        base = [__version__, self.fingerprint, self.setting.benchmark.name, self.split, self.fold, forgotten]
        shared = [self.entry.name, self.setting.protocol.id, sets_digest(self.sets), recipe.batch_size]
        rows = [row for row in self.setting.rows if row.method != HOOK_OFF]
        order = [(row, seed) for seed in recipe.seeds for row in rows if seed in seeds_of(row, recipe.seeds)]
        last = [(row, recipe.seeds[0]) for row in self.setting.rows if row.method == HOOK_OFF]
        for row, seed in [*order, *last]:
            made_of = [*base, OURS if row.erases else row.method, dict(row.settings), seed, recipe.seeds[0]]
            product = "" if row.method in (VANILLA, RETAIN_ONLY) else digest_of(made_of)
            more = [row.label, row.method, recipe.activations if row.method == OURS else 0, self._twin_digest(row)]
            yield Task(self.entry.name, self.split, self.fold, seed, row, digest_of([made_of, shared, more]), product)

    def _twin_digest(self, row: Row) -> str:
        if row.method != RETAIN_ONLY:
            return ""
        return self.twin.digest if isinstance(self.twin, Twin) else self.twin

    def blank(self, task: Task) -> dict[str, Any]:
        """What the file of a cell says whatever comes of it."""
        row = task.row
        return {
            "digest": task.digest,
            "model": task.model,
            "fingerprint": self.fingerprint,
            "benchmark": self.setting.benchmark.name,
            "protocol": self.setting.protocol.id,
            "split": task.split,
            "fold": task.fold,
            "seed": task.seed,
            "label": row.label,
            "method": row.method,
            "preset": row.preset if row.method == OURS else None,
            "variant": row.variant,
            "settings": dict(row.settings),
        }

    # -- running -----------------------------------------------------------------------------------------

    def run(self, task: Task, done: Mapping[str, Cell], progress: Progress | None = None) -> Cell:
        """Run a cell; `done` holds those of this stage that were run before it, by label.

        Raises:
            Exception: Whatever the method, the model or the benchmark raises; the model is as it was.
        """
        if task.row.method == RETAIN_ONLY:
            return self._retain_only(task, progress)
        if task.row.method == VANILLA:
            return self._cell(task, self._asked(task, None, progress))
        made = make(
            self.model, task.row, self.requests, self.product_folder(task), seed=task.seed, progress=_named(progress)
        )
        if task.row.method == HOOK_OFF:
            return self._hook_off(task, made, done, progress)
        result = self._asked(task, made.product, progress)
        cell = self._cell(task, result, made)
        if isinstance(made.product, Eraser) and self.setting.recipe.activations:
            most = self.setting.recipe.activations
            cell.activations = activations.measure(self.model, made.product, self.sets, most)
        return cell

    def product_folder(self, task: Task) -> Path:
        """Where the product of a cell is kept."""
        return self.setting.out / "products" / task.product

    def _hook_off(self, task: Task, made: Made, done: Mapping[str, Cell], progress: Progress | None) -> Cell:
        """Put the eraser on, ask one batch, take it off, ask everything: the answers have to be vanilla's."""
        vanilla = done.get(VANILLA)
        if vanilla is None or vanilla.status != "done":
            raise LeftTraceError("there are no vanilla answers to compare with")
        some = next(iter(self.sets.values()))[: self.setting.recipe.batch_size]
        with made.product.attached(self.model):
            self.model.generate(some, max_new_tokens=1, batch_size=len(some))
        cell = self._cell(task, self._asked(task, None, progress))
        before = {(item["set"], item["id"]): item["answer"] for item in vanilla.answers}
        after = {(item["set"], item["id"]): item["answer"] for item in cell.answers}
        other = sum(after.get(key) != answer for key, answer in before.items())
        if other or before.keys() != after.keys():
            raise LeftTraceError(f"{other} of {len(before)} answers differ from vanilla's once everything is detached")
        return cell

    def _retain_only(self, task: Task, progress: Progress | None) -> Cell:
        twin = self.twin
        if isinstance(twin, str):
            return Cell(**self.blank(task), status="missing", reason=twin)
        if twin.folder is not None:
            other = load_model(str(twin.folder), dtype=self.entry.dtype)
            return self._cell(task, self._asked(task, None, progress, other))
        assert twin.answers is not None
        try:
            sets = answered_sets(twin, self.sets)
        except NoTwin as error:
            return Cell(**self.blank(task), status="missing", reason=str(error))
        recital = cast(MultimodalModel, Recital(self.entry.name, twin.answers, sets))
        cell = self._cell(task, self._asked(task, None, progress, recital, sets))
        cell.answering_seconds = None
        return cell

    def _asked(
        self,
        task: Task,
        intervention: Intervention | None,
        progress: Progress | None,
        model: MultimodalModel | None = None,
        sets: Mapping[str, list[Sample]] | None = None,
    ) -> EvaluationResult:
        chosen, benchmark = sets or self.sets, self.setting.benchmark
        synthetic = {"general", "holdout"} <= set(benchmark.source.configs)
        asked = model or self.model
        if isinstance(asked, MultimodalModel):
            _afresh(asked, next(iter(chosen.values()))[:1])
        result = evaluate(
            asked,
            chosen,
            method=task.row.method,
            preset=task.row.preset if task.row.method == OURS else None,
            benchmark=benchmark.name,
            split=task.split,
            intervention=intervention,
            values=benchmark.values,
            vocabulary=benchmark.vocabulary if synthetic else None,
            protocol=self.setting.protocol,
            batch_size=self.setting.recipe.batch_size,
            seed=task.seed,
            progress=_counting(progress, sum(map(len, chosen.values()))),
        )
        # A twin's checkpoint stands in for the model of the recipe: one model, one name.
        result.records = [record.model_copy(update={"model": task.model}) for record in result.records]
        return result

    def _cell(self, task: Task, result: EvaluationResult, made: Made | None = None) -> Cell:
        return Cell(
            **self.blank(task),
            status="done",
            making_seconds=None if made is None else made.seconds,
            stages={} if made is None else made.stages,
            answering_seconds=sum(record.seconds for record in result.records),
            product_bytes=None if made is None else size_of(made.product),
            records=result.records,
            items=[dict(item) for item in result.items],
        )


def _afresh(model: MultimodalModel, samples: Sequence[Sample]) -> None:
    """Let every row start alike, so that their times compare: the model warm, no picture processed yet."""
    model.generate(samples, max_new_tokens=1)
    model.prompts = Prompts(model.family, model.processor)


def _named(progress: Progress | None) -> Progress | None:
    """One bar for all stages of making a product."""
    if progress is None:
        return None
    tell = progress

    def report(stage: str, done: int, total: int) -> None:
        tell("make", done, total)

    return report


def _counting(progress: Progress | None, total: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    tell, done = progress, 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        tell("answers", done, total)

    return count
