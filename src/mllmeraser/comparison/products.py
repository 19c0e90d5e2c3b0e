"""Making the product that a row attaches, and keeping it for the next run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllmeraser.comparison.method_rows import Row
from mllmeraser.erasure import ContrastSet, Eraser, FitSettings, fit
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.methods import load_method
from mllmeraser.methods.block_list import BlockListProduct
from mllmeraser.methods.system_prompt import SystemPromptProduct
from mllmeraser.models import Intervention, MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.samples import Request
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.progress import Progress

CLOCK = "making.json"


@dataclass(frozen=True)
class Made:
    """A product and its seconds, in all and by stage."""

    product: Intervention
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)


def make(
    model: MultimodalModel,
    row: Row,
    request: Callable[[], Request],
    folder: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Made:
    """Make the product of a row, or read the one that an earlier run left in `folder`.

    Interrupted training resumes from `folder`; the seconds of all its parts count. `request` is called if it is needed.
    It is an InputError if the method cannot use this request, model or these settings.
    """
    clock = _clock(folder)
    if row.erases:
        if clock is not None:
            return Made(Eraser.from_pretrained(folder / "eraser"), clock["seconds"], clock["stages"])
        return _erased(model, row, request(), folder, seed, progress)
    before = clock["seconds"] if clock is not None else 0.0
    began = time.perf_counter()
    try:
        product = load_method(row.method).make(
            model, request(), settings=dict(row.settings), folder=folder, seed=seed, progress=progress
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
    needed = "contrast" in direction_kind(settings.direction.kind).needs
    contrast = ContrastSet.from_samples(*contrast_prompts(seed)) if needed else None
    began = time.perf_counter()
    made = fit(model, request, settings, progress, contrast=contrast)
    seconds = time.perf_counter() - began
    stages = {name: value for name, value in made.timings.items() if name != "total"}
    made.eraser.save_pretrained(folder / "eraser")
    _keep_clock(folder, seconds, stages, finished=True)
    return Made(made.eraser, seconds, stages)


def forget_product(folder: Path) -> None:
    """Remove the folder of a product."""
    shutil.rmtree(folder, ignore_errors=True)


def size_of(product: Intervention) -> int | None:
    """Bytes of a product; None if it does not state them."""
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
