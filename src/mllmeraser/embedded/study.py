"""How well the default forgets on the embedded model: ``python -m mllmeraser.embedded.study``.

Splits of 5, 10 and 15 % on fold 0, and the 5 % split on every other fold: recall of the forgotten before and after,
what became of their answers, and what the rest lost. Written as JSON with command, hardware and seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import Sizes, forget_request, scored_sets
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.readings import read_gate
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.threshold import auc, wilson
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.evaluation.records import Item
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.files import write_whole
from mllmeraser.version import __version__

PLAN = (("forget_5", 0), ("forget_10", 0), ("forget_15", 0), *(("forget_5", fold) for fold in range(1, 5)))


def study(
    model: MultimodalModel, benchmark: Benchmark, split: str, fold: int, preset: str, seed: int
) -> dict[str, Any]:
    """Fit on one split and fold, and score with and without the eraser."""
    sets = scored_sets(benchmark, split, Sizes(retain_heldout=60, celebrity=24, general=10**6, holdout=24), fold)
    request = complete(forget_request(benchmark, split, fold), seed=seed).request
    began = time.perf_counter()
    made = fit(model, request, FitSettings.preset(preset).model_copy(update={"seed": seed, "salt": "study"}))
    seconds = time.perf_counter() - began
    told = {
        method: evaluate(
            model, sets, method=method, benchmark=BENCHMARK, split=split, intervention=eraser, seed=seed,
            values=benchmark.values, vocabulary=benchmark.vocabulary,
        ).items
        for method, eraser in (("vanilla", None), ("mllmeraser", made.eraser))
    }  # fmt: skip
    seen = {name: read_gate(model, made.eraser, samples).pooled for name, samples in sets.items()}
    threshold = made.eraser.config.threshold or 0.0
    fired = {name: int((scores > threshold).sum()) for name, scores in seen.items()}
    low, high = wilson(fired["retain_heldout"], len(seen["retain_heldout"]))
    return {
        "split": split,
        "fold": fold,
        "people": len(request.subjects),
        "fit_seconds": round(seconds, 2),
        "timings": {name: round(value, 3) for name, value in made.timings.items()},
        "bytes": made.eraser.nbytes,
        "auc": auc(seen["test"], seen["retain_heldout"]),
        "detected": fired["test"] / len(seen["test"]),
        "false_alarms": {"stated": made.eraser.config.calibration.false_alarm_target,
                         "measured": fired["retain_heldout"] / len(seen["retain_heldout"]), "ci": [low, high]},
        "recalled": {
            f"{modality}/{task}": {m: _share(items, "test", modality, task, seed) for m, items in told.items()}
            for modality in ("image", "text")
            for task in ("generation", "cloze", "classification")
        },
        "forget_outcomes": dict(Counter(i["outcome"] for i in told["mllmeraser"] if i["set"] == "test")),
        "accuracy": {
            name: {method: _share(items, name, None, None, seed) for method, items in told.items()}
            for name in ("retain_heldout", "celebrity", "general", "perception")
        },
    }  # fmt: skip


def _share(items: Sequence[Item], name: str, modality: str | None, task: str | None, seed: int) -> dict[str, float]:
    chosen = [i for i in items if i["set"] == name and modality in (None, i["modality"]) and task in (None, i["task"])]
    right = [i["correct"] for i in chosen]
    interval = share_interval(right, [i["subject"] or i["id"] for i in chosen], seed=seed)
    return {"share": sum(right) / len(right), "low": interval.low, "high": interval.high, "n": len(right)}


def main(argv: list[str] | None = None) -> None:
    """Run the plan and write the results."""
    parser = argparse.ArgumentParser(prog="python -m mllmeraser.embedded.study", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded:llava")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/embedded-NAME.json")
    parser.add_argument("--first", type=int, default=len(PLAN), help="only the first so many entries of the plan")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    out = args.out or Path("benchmarks/results", f"{args.model.replace(':', '-')}.json")
    model, benchmark, results = load_model(args.model), load_benchmark(BENCHMARK), []
    for split, fold in PLAN[: args.first]:
        results.append(study(model, benchmark, split, fold, args.preset, args.seed))
        report = {
            "command": f"{parser.prog} --model {args.model} --preset {args.preset} --seed {args.seed}",
            "version": __version__,
            "fingerprint": model.fingerprint(),
            "hardware": f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}",
            "results": results,
        }
        write_whole(out, json.dumps(report, indent=1) + "\n", force=True)
        last = results[-1]
        print(
            json.dumps({k: last[k] for k in ("split", "fold", "fit_seconds", "auc", "detected", "forget_outcomes")}),
            flush=True,
        )


if __name__ == "__main__":
    main()
