"""What the command line and a program of one's own call: each function is one job from start to end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.contrast import ContrastSet
from mllmeraser.erasure.direction import CONTRAST_KINDS
from mllmeraser.erasure.eraser import Eraser
from mllmeraser.erasure.fit import FitSettings, fit
from mllmeraser.erasure.self_test import check_hooks
from mllmeraser.erasure.steering import ErasurePack, attach_all
from mllmeraser.evaluation.protocols import default_protocol, get_protocol
from mllmeraser.evaluation.records import Record
from mllmeraser.evaluation.records import write_scores as _write_scores
from mllmeraser.evaluation.runner import evaluate as _evaluate
from mllmeraser.models.families import families
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import check_target, whole_folder
from mllmeraser.samples.images import open_image
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample

Say = Callable[[str], None]

__all__ = [
    "ask",
    "check_model",
    "check_target",
    "compare",
    "demo",
    "describe_eraser",
    "erase",
    "evaluate",
    "exhibit",
    "first_model",
    "forget_split",
    "list_families",
    "read_request",
    "save_eraser",
    "set_seed",
    "set_threads",
    "write_records",
]


# -- before work ---------------------------------------------------------------------------------------------------


def set_threads(model: str, threads: int | None) -> int:
    """Set torch's threads: as asked, else one per processor, at most 2 for the small embedded models."""
    count = threads or os.cpu_count() or 1
    if threads is None and model.startswith("embedded:"):
        count = min(count, 2)
    torch.set_num_threads(count)
    return count


def set_seed(seed: int) -> None:
    """Seed Python's and torch's generators."""
    random.seed(seed)
    torch.manual_seed(seed)


# -- making an eraser ----------------------------------------------------------------------------------------------


def read_request(
    forget: Path, *, retain: Path | None = None, strangers: Path | None = None, name: str | None = None
) -> Request:
    """Read a request; ``name`` names its only subject.

    Raises:
        InputError: The request cannot be read, or a name is given for several subjects.
    """
    request = Request.from_folder(forget, retain=retain, strangers=strangers)
    if name is None:
        return request
    if len(request.subjects) > 1:
        raise InputError("--name suits one subject; give several their names in request.yaml")
    subject = request.subjects[0]
    return replace(request, subjects=(replace(subject, names=(name, *subject.names)),))


def erase(
    model: str | MultimodalModel,
    request: Request,
    preset: str | FitSettings = "default",
    *,
    contrast: ContrastSet | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Eraser:
    """Make an eraser for a request: complete it with views, wordings and default sets, then fit.

    Args:
        model: Name or loaded model.
        request: What to forget, as written: views, wordings and missing sets are added here.
        preset: ``"default"``, ``"paper"``, or settings of one's own.
        contrast: Refused prompts, for the directions that need them; None: the shipped set.
        seed: Of everything random.
        progress: Told how far the work is.
        say: Called with one line for everything that was added without being asked for.

    Raises:
        InputError: The request or the settings cannot be used.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    settings = FitSettings.preset(preset) if isinstance(preset, str) else preset
    settings = settings.model_copy(update={"seed": seed})
    completed = complete(request, loaded, seed=seed)
    for line in completed.notes if say is not None else ():
        say(line)  # type: ignore[misc]
    if contrast is None and settings.direction.kind in CONTRAST_KINDS:
        contrast = ContrastSet.from_samples(*contrast_prompts(seed))
    return fit(loaded, completed.request, settings, progress, contrast=contrast).eraser


def forget_split(benchmark: str, split: str = "forget_5", fold: int = 0) -> Request:
    """The request to forget the people of a benchmark's split: their pictures and names, no private fact."""
    from mllmeraser.embedded.demo import forget_request

    return forget_request(load_benchmark(benchmark), split, fold)


def save_eraser(eraser: Eraser, out: Path, *, force: bool = False) -> Path:
    """Write an eraser to a folder, whole or not at all."""
    with whole_folder(out, force=force) as folder:
        eraser.save_pretrained(folder)
    return out


def describe_eraser(eraser: Eraser, path: Path) -> dict[str, Any]:
    """What an eraser is, for a person or a program; names nobody."""
    config = eraser.config
    calibration = config.calibration.model_dump(exclude={"curve"}, exclude_none=True)
    return {
        "path": str(path),
        "subjects": len(config.subjects),
        "bytes": sum(file.stat().st_size for file in Path(path).iterdir()),
        "base_model": config.base_model,
        "policy": config.policy.name,
        "gate": config.gate.kind,
        "direction": config.direction.kind,
        "read_layers": list(config.read_layers),
        "shift_layers": list(config.shift_layers),
        "strength": config.strength,
        "threshold": config.threshold,
        "calibration": calibration,
        "digest": eraser.digest(),
    }


# -- asking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What the gate of one eraser read at one question."""

    eraser: str
    score: float
    threshold: float | None
    fired: bool
    layers: dict[int, float]

    def line(self) -> str:
        """The reading in one line."""
        limit = "" if self.threshold is None else f", threshold {self.threshold:.2f}"
        return f"{self.eraser}: gate {self.score:.2f}{limit}: {'acts' if self.fired else 'does not act'}"


@dataclass(frozen=True)
class Answer:
    """One answer, and what the gates read."""

    answer: str
    readings: tuple[Reading, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def ask(
    model: str | MultimodalModel,
    question: str,
    *,
    image: Path | None = None,
    erasers: Sequence[str | Path | Eraser] = (),
    max_new_tokens: int = 32,
) -> Answer:
    """Ask one question, with erasers attached."""
    if not question.strip():
        raise InputError("the question is empty")
    picture = None if image is None else open_image(image)
    named = _load_erasers(erasers)
    loaded = load_model(model) if isinstance(model, str) else model
    sample = Sample(question, picture)
    if not named:
        return Answer(loaded.generate([sample], max_new_tokens=max_new_tokens)[0])
    with attach_all(loaded, named) as attachment:
        text = loaded.generate([sample], max_new_tokens=max_new_tokens)[0]
        seen = attachment.readings
    assert seen is not None
    readings = [
        Reading(
            name,
            float(seen.pooled[0, i]),
            eraser.config.threshold,
            bool(seen.amplitudes[0, i] != 0),
            {layer: float(scores[0].amax()) for layer, scores in seen.per_layer[name].items()},
        )
        for i, (name, eraser) in enumerate(named.items())
    ]
    return Answer(text, tuple(readings))


def _load_erasers(erasers: Iterable[str | Path | Eraser]) -> dict[str, Eraser]:
    """Erasers by the name of their folder; two folders of one name are numbered."""
    found: dict[str, Eraser] = {}
    for entry in erasers:
        eraser = entry if isinstance(entry, Eraser) else Eraser.from_pretrained(entry)
        name = eraser.name if isinstance(entry, Eraser) else Path(entry).name
        while name in found:
            name += "+"
        found[name] = eraser
    return found


# -- scoring -------------------------------------------------------------------------------------------------------


def evaluate(
    model: str | MultimodalModel,
    benchmark: str,
    *,
    split: str = "forget_5",
    fold: int = 0,
    sets: Sequence[str] | None = None,
    limit: int | None = None,
    erasers: Sequence[str | Path | Eraser] = (),
    protocol: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Record]:
    """Score a model on a benchmark, bare or with erasers attached.

    Args:
        model: Name or loaded model.
        benchmark: ``"portraits:dev"``, a folder, or a hub id.
        split: Which people are to be forgotten.
        fold: Which rotation of them.
        sets: Only these sets; None: all of the score table, or those that the protocol knows.
        limit: At most this many samples of each set, modality and task.
        erasers: Attached together for the whole evaluation.
        protocol: How the benchmark is put to the model and counted (see `evaluation.protocols`); None: `portraits`
            for the embedded benchmark, `strict` for others.
        seed: Of the intervals.
        progress: Told how far the work is.

    Raises:
        InputError: No such benchmark, split, set, protocol or model, or an eraser for another model.
    """
    asked = None if protocol is None else get_protocol(protocol)
    data = load_benchmark(benchmark, prompts=None if asked is None else asked.prompts)
    rules = asked or default_protocol(data)
    named = _load_erasers(erasers)
    chosen = rules.read(data, split, fold, names=sets)
    loaded = load_model(model) if isinstance(model, str) else model
    chosen = rules.with_context(chosen, data, split, fold, family=loaded.family.name)
    if limit is not None:
        chosen = {name: thin(samples, limit) for name, samples in chosen.items()}
    total, done = sum(len(samples) for samples in chosen.values()), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress("score", done, total)

    synthetic = benchmark.startswith("portraits:")
    return _evaluate(
        loaded,
        chosen,
        method="mllmeraser" if named else "vanilla",
        benchmark=data.name,
        split=split,
        intervention=ErasurePack(named) if named else None,
        policy="+".join(eraser.config.policy.name for eraser in named.values()) or None,
        values=data.values,
        vocabulary=data.vocabulary if synthetic else None,
        protocol=rules,
        seed=seed,
        progress=count,
    ).records


def write_records(records: Sequence[Record], out: Path, *, force: bool = False) -> list[dict[str, Any]]:
    """Write ``scores.json``; returns the rows."""
    _write_scores(out, records, force=force)
    return [record.model_dump() for record in records]


# -- comparing -----------------------------------------------------------------------------------------------------


def first_model(recipe: str | Path, *, quick: bool = False, changes: Sequence[str] = ()) -> str:
    """The model that a recipe begins with."""
    from mllmeraser.comparison.recipe import read_recipe

    return read_recipe(recipe, quick=quick, changes=changes).models[0].name


def compare(
    recipe: str | Path,
    out: Path,
    *,
    quick: bool = False,
    changes: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a recipe into a folder, resuming what is there; returns what came of it (see `comparison.run`)."""
    from mllmeraser.comparison.run import run_recipe

    return run_recipe(recipe, out, quick=quick, changes=changes, force=force, progress=progress).summary()


def exhibit(name: str, out: Path) -> list[str]:
    """Draw one exhibit of a comparison anew from its files; returns what was written."""
    from mllmeraser.comparison.exhibits import draw
    from mllmeraser.comparison.results import read_run

    return [str(file) for file in draw(name, read_run(out), out / "exhibits")]


# -- demo and models -----------------------------------------------------------------------------------------------


def demo(
    model: str, out: Path, *, seed: int = 0, force: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the demo into a folder, whole or not at all; returns the lines to tell and where the report is."""
    from mllmeraser.embedded.demo import run_demo
    from mllmeraser.report.summary import headline

    with whole_folder(out, force=force) as folder:
        folder.mkdir()
        result = run_demo(model, folder, seed=seed, progress=progress)
    lines = [
        f"{figure.label}: {figure.value}" + (f" (before: {figure.before})" if figure.before else "")
        for figure in headline(result)
    ]
    return {
        "lines": lines,
        "report": str(out / "report.html"),
        "scores": str(out / "scores.json"),
        "eraser": str(out / "eraser"),
    }


def list_families() -> list[dict[str, Any]]:
    """The families that have an adapter, and the embedded models of each."""
    from mllmeraser.embedded import NAMES

    return [
        {
            "family": family.name,
            "model_types": list(family.model_types),
            "embedded": [f"embedded:{name}" for name in NAMES if family.name.startswith(name)],
        }
        for family in families()
    ]


def check_model(model: str) -> dict[str, Any]:
    """Load a model and test that erasers attach to it and leave no trace."""
    return check_hooks(load_model(model))
