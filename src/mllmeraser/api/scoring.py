"""Scores of a model on a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.api.answers import load_erasers
from mllmeraser.benchmarks.benchmark import thin
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.attach import ErasurePack
from mllmeraser.evaluation.protocols import default_protocol, get_protocol
from mllmeraser.evaluation.records import Record
from mllmeraser.evaluation.records import write_scores as _write_scores
from mllmeraser.evaluation.runner import evaluate as _evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress


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
    named = load_erasers(erasers)
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
