"""Making what a row puts on the model, and keeping it for the next run."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.comparison.recipe import is_trained
from mllmeraser.comparison.rows import Row
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit.linear import fit
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.methods.block_list import BlockListProduct
from mllmeraser.methods.registry import load_method
from mllmeraser.methods.system_prompt import SystemPromptProduct
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request

CLOCK = "making.json"


@dataclass
class Requests:
    """What is to be forgotten on one split and fold, in the two forms that methods need; each is made once.

    Attributes:
        benchmark: Where the people come from.
        split: How many.
        fold: Which.
        seed: Of the sets that are added to a request.
    """

    benchmark: Benchmark
    split: str
    fold: int
    seed: int

    @cached_property
    def operators(self) -> Request:
        """As an operator writes it, completed: pictures and names of the shipped world's people without any private
        fact; of other benchmarks the training form.
        """
        if self.benchmark.name == BENCHMARK:
            request = forget_request(self.benchmark, self.split, self.fold)
        else:
            request = self.trained
        return complete(request, seed=self.seed).request

    @cached_property
    def trained(self) -> Request:
        """Questions and true answers about everybody, which training needs."""
        return self.benchmark.request(self.split, self.fold)


@dataclass(frozen=True)
class Made:
    """A product and what it took."""

    product: Intervention
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)


def make(
    model: MultimodalModel, row: Row, requests: Requests, folder: Path, *, seed: int, progress: Progress | None = None
) -> Made:
    """Make the product of a row, or read what an earlier run left in `folder`.

    Training resumes from `folder` where it was stopped; the seconds of all its parts count.

    Raises:
        InputError: The method cannot use this request, model or these settings.
    """
    clock = _clock(folder)
    if row.erases:
        if clock is not None:
            return Made(Eraser.from_pretrained(folder / "eraser"), clock["seconds"], clock["stages"])
        return _erased(model, row, requests.operators, folder, seed, progress)
    request = requests.trained if is_trained(row.method) else requests.operators
    before = clock["seconds"] if clock is not None else 0.0
    began = time.perf_counter()
    try:
        product = load_method(row.method).make(
            model, request, settings=dict(row.settings), folder=folder, seed=seed, progress=progress
        )
    finally:
        finished = clock is not None and clock["finished"]
        seconds = before if finished else before + time.perf_counter() - began
        if folder.is_dir() and not finished:
            _keep_clock(folder, seconds, {}, finished=False)
    if folder.is_dir():
        _keep_clock(folder, seconds, {}, finished=True)
    return Made(product, seconds)


def _erased(
    model: MultimodalModel, row: Row, request: Request, folder: Path, seed: int, progress: Progress | None
) -> Made:
    settings = FitSettings.model_validate(row.settings).model_copy(update={"seed": seed})
    contrast = None
    if "contrast" in direction_kind(settings.direction.kind).needs:
        contrast = ContrastSet.from_samples(*contrast_prompts(seed))
    began = time.perf_counter()
    made = fit(model, request, settings, progress, contrast=contrast)
    seconds = time.perf_counter() - began
    stages = {name: value for name, value in made.timings.items() if name != "total"}
    made.eraser.save_pretrained(folder / "eraser")
    _keep_clock(folder, seconds, stages, finished=True)
    return Made(made.eraser, seconds, stages)


def forget_product(folder: Path) -> None:
    """Remove what a product left in its folder."""
    shutil.rmtree(folder, ignore_errors=True)


def size_of(product: Intervention) -> int | None:
    """Bytes of what a product holds; None where it does not say."""
    if isinstance(product, SystemPromptProduct):
        return len(product.instruction.encode())
    if isinstance(product, BlockListProduct):
        values = product.features.numel() + product.centre.numel()
        return 4 * values + sum(len(name.encode()) for name in product.names)
    size = getattr(product, "nbytes", None)
    return size if isinstance(size, int) else None


def _clock(folder: Path) -> dict[str, Any] | None:
    try:
        clock = json.loads((folder / CLOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return clock if isinstance(clock, dict) and {"seconds", "stages", "finished"} <= clock.keys() else None


def _keep_clock(folder: Path, seconds: float, stages: dict[str, float], *, finished: bool) -> None:
    content = {"seconds": seconds, "stages": stages, "finished": finished}
    write_whole(folder / CLOCK, json.dumps(content) + "\n", force=True)
