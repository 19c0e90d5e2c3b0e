"""One model on one split and fold: its sets, its tasks, and running a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.comparison import activations
from mllmeraser.comparison.cells import Cell, Task, digest_of, sets_digest
from mllmeraser.comparison.memorisation_check import SETS, swapped
from mllmeraser.comparison.method_rows import Row, seeds_of
from mllmeraser.comparison.products import Made, make, size_of
from mllmeraser.comparison.recipe import HOOK_OFF, OURS, RETAIN_ONLY, VANILLA, ModelEntry, Recipe, is_trained
from mllmeraser.comparison.twin import Answers, Sets, StoredAnswers, Twin, answered_sets, find_twin
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import Eraser
from mllmeraser.evaluation import EvaluationResult, Protocol, Record, evaluate
from mllmeraser.models import Intervention, MultimodalModel, load_model
from mllmeraser.models.prompts import Prompts
from mllmeraser.portraits.taught import is_drawn
from mllmeraser.samples import MLLMEraserError, Request, Sample
from mllmeraser.samples.progress import Progress, counting
from mllmeraser.version import __version__


class LeftTraceError(MLLMEraserError):
    """The model does not answer as before after everything was detached."""


@dataclass(frozen=True)
class Setting:
    """Shared by all cells of a comparison."""

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
        """The questions of every row."""
        recipe, protocol, benchmark = self.setting.recipe, self.setting.protocol, self.setting.benchmark
        read = protocol.read(benchmark, self.split, self.fold, names=recipe.sets)
        asked = protocol.with_context(read, benchmark, self.split, self.fold, family=self.model.family.name)
        limits = {name: (recipe.sets or {}).get(name) or recipe.limit for name in asked}
        return {
            name: samples if (most := limits[name]) is None else thin(samples, most) for name, samples in asked.items()
        }

    @cached_property
    def training_request(self) -> Request:
        """Questions and true answers about everybody, for training."""
        return self.setting.benchmark.request(self.split, self.fold)

    @cached_property
    def operator_request(self) -> Request:
        """The completed request of an operator: pictures and names of the shipped people, without private facts.

        Other benchmarks give their training form. The sets added to it are those of the first seed.
        """
        benchmark = self.setting.benchmark
        drawn = is_drawn(benchmark.name)
        request = forget_request(benchmark, self.split, self.fold) if drawn else self.training_request
        return complete(request, seed=self.setting.recipe.seeds[0], benchmark=benchmark.name).request

    def request(self, row: Row) -> Request:
        """The request in the form that a row's method needs."""
        trains = not row.erases and is_trained(row.method)
        return self.training_request if trains else self.operator_request

    @cached_property
    def twin(self) -> Twin | str:
        """The retain-only twin, or why there is none."""
        return find_twin(self.entry, self.setting.benchmark.name, self.setting.protocol.id, self.split, self.fold)

    def tasks(self) -> Iterator[Task]:
        """The cells of this stage in running order."""
        recipe = self.setting.recipe
        forgotten = sets_digest({"forget": self.setting.benchmark.samples("forget", self.split, self.fold)})
        base = [__version__, self.fingerprint, self.setting.benchmark.name, self.split, self.fold, forgotten]
        shared = [self.entry.name, self.setting.protocol.id, sets_digest(self.sets), recipe.batch_size]
        rows = [row for row in self.setting.rows if row.method != HOOK_OFF]
        order = [(row, seed) for seed in recipe.seeds for row in rows if seed in seeds_of(row, recipe.seeds)]
        last = [(row, recipe.seeds[0]) for row in self.setting.rows if row.method == HOOK_OFF]
        twin = self.twin.digest if isinstance(self.twin, Twin) else self.twin
        for row, seed in [*order, *last]:
            made_of = [*base, OURS if row.erases else row.method, dict(row.settings), seed, recipe.seeds[0]]
            product = "" if row.method in (VANILLA, RETAIN_ONLY) else digest_of(made_of)
            captured = recipe.activations if row.method == OURS else 0
            own_twin = twin if row.method == RETAIN_ONLY else ""
            digest = digest_of([made_of, shared, [row.label, row.method, captured, own_twin]])
            yield Task(self.entry.name, self.split, self.fold, seed, row, digest, product)

    def blank(self, task: Task) -> dict[str, Any]:
        """The part of a cell that does not depend on the result."""
        row, setting = task.row, self.setting
        return {
            **{name: getattr(task, name) for name in ("digest", "model", "split", "fold", "seed")},
            **{name: getattr(row, name) for name in ("label", "method", "variant")},
            "fingerprint": self.fingerprint,
            "benchmark": setting.benchmark.name,
            "protocol": setting.protocol.id,
            "preset": row.preset if row.method == OURS else None,
            "settings": dict(row.settings),
        }

    def run(self, task: Task, done: Mapping[str, Cell], progress: Progress | None = None) -> Cell:
        """Run a cell; `done` holds the earlier cells of this stage by label. After any error the model is unchanged."""
        if task.row.method == RETAIN_ONLY:
            return self._retain_only(task, progress)
        if task.row.method == VANILLA:
            cell = self._cell(task, self._asked(task, None, progress))
            cell.control = self._control(task, cell)
            return cell
        # one bar for all stages of making a product
        making = None if progress is None else lambda stage, at, total: progress("make", at, total)
        folder = self.setting.out / "products" / task.product
        made = make(self.model, task.row, lambda: self.request(task.row), folder, seed=task.seed, progress=making)
        if task.row.method == HOOK_OFF:
            return self._hook_off(task, made, done, progress)
        cell = self._cell(task, self._asked(task, made.product, progress), made)
        if isinstance(made.product, Eraser) and self.setting.recipe.activations:
            cell.activations = activations.measure(self.model, made.product, self.sets, self.setting.recipe.activations)
        return cell

    def _control(self, task: Task, vanilla: Cell) -> list[Record]:
        """Scores of vanilla's answers swapped between the people to forget (see `memorisation_check`)."""
        name = next((name for name in SETS if self.sets.get(name)), None)
        if name is None:
            return []
        everyone = self.setting.protocol.read(self.setting.benchmark, self.split, self.fold, names=[name])[name]
        items = [item for item in vanilla.answers if item["set"] == name]
        samples, answers = swapped(self.sets[name], everyone, items)
        stored = {(name, key): answer for key, answer in answers.items()}
        return self._from_answers(task, stored, {name: samples}).records if samples else []

    def _hook_off(self, task: Task, made: Made, done: Mapping[str, Cell], progress: Progress | None) -> Cell:
        """Attach the eraser, ask one batch, detach it, and ask everything: the answers must be vanilla's."""
        vanilla = done.get(VANILLA)
        if vanilla is None or vanilla.status != "done":
            raise LeftTraceError("there are no vanilla answers to compare with")
        some = next(iter(self.sets.values()))[: self.setting.recipe.batch_size]
        with made.product.attached(self.model):
            self.model.generate(some, max_new_tokens=1, batch_size=len(some))
        cell = self._cell(task, self._asked(task, None, progress))
        before, after = ({(item["set"], item["id"]): item["answer"] for item in one.answers} for one in (vanilla, cell))
        other = sum(after.get(key) != answer for key, answer in before.items())
        if other or before.keys() != after.keys():
            raise LeftTraceError(f"{other} of {len(before)} answers differ from vanilla's once everything is detached")
        return cell

    def _retain_only(self, task: Task, progress: Progress | None) -> Cell:
        twin = self.twin
        if isinstance(twin, Twin):
            if twin.folder is not None:
                other = load_model(str(twin.folder), dtype=self.entry.dtype)
                return self._cell(task, self._asked(task, None, progress, other))
            answers = twin.answers or {}
            if sets := answered_sets(answers, self.sets):
                cell = self._cell(task, self._from_answers(task, answers, sets, progress))
                cell.answering_seconds = None
                return cell
            twin = "the committed answers are about none of these sets: make new ones (mllmeraser.embedded.twins)"
        return Cell(**self.blank(task), status="missing", reason=twin)

    def _from_answers(
        self, task: Task, answers: Answers, sets: Sets, progress: Progress | None = None
    ) -> EvaluationResult:
        """Score answers that are known already."""
        model = cast(MultimodalModel, StoredAnswers(self.entry.name, answers, sets))
        return self._asked(task, None, progress, model, sets)

    def _asked(
        self,
        task: Task,
        intervention: Intervention | None,
        progress: Progress | None,
        model: MultimodalModel | None = None,
        sets: Sets | None = None,
    ) -> EvaluationResult:
        chosen, benchmark, protocol = sets or self.sets, self.setting.benchmark, self.setting.protocol
        synthetic = {"general", "holdout"} <= set(benchmark.source.configs)
        asked = model or self.model
        stored = isinstance(cast(object, asked), StoredAnswers)
        if stored:
            protocol = replace(protocol, options=None)  # stored answers have no likelihoods
        else:  # every row starts alike, so that times compare: the model warm, no picture processed yet
            asked.generate(next(iter(chosen.values()))[:1], max_new_tokens=1)
            asked.prompts = Prompts(asked.family, asked.processor)
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
            protocol=protocol,
            batch_size=self.setting.recipe.batch_size,
            seed=task.seed,
            progress=counting(progress, "answers", sum(map(len, chosen.values()))),
        )
        # records of a twin's checkpoint carry the name of the model in the recipe
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
