"""How well the default forgets on a model: ``python -m mllmeraser.studies.forgetting``.

Splits of 5, 10 and 15 % on five folds each: recall of the forgotten before and after, what became of their answers,
and what the rest lost.
"""

from __future__ import annotations

import time
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
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import by_cell, outcomes, share, told

PLAN = tuple((split, fold) for split in ("forget_5", "forget_10", "forget_15") for fold in range(5))


def study(
    model: MultimodalModel, benchmark: Benchmark, split: str, fold: int, preset: str, seed: int
) -> dict[str, Any]:
    """Fit on one split and fold, and score with and without the eraser."""
    sets = scored_sets(benchmark, split, Sizes(retain_heldout=60, celebrity=24, general=10**6, holdout=24), fold)
    request = complete(forget_request(benchmark, split, fold), seed=seed).request
    began = time.perf_counter()
    made = fit(model, request, FitSettings.preset(preset).model_copy(update={"seed": seed, "salt": "study"}))
    seconds = time.perf_counter() - began
    items = {
        method: told(model, benchmark, sets, eraser, split=split, seed=seed)
        for method, eraser in (("vanilla", None), ("mllmeraser", made.eraser))
    }
    seen = {name: read_gate(model, made.eraser, samples).pooled for name, samples in sets.items()}
    threshold = made.eraser.config.threshold or 0.0
    fired = {name: int((scores > threshold).sum()) for name, scores in seen.items()}
    low, high = wilson(fired["retain_heldout"], len(seen["retain_heldout"]))
    recalled = {method: by_cell(found, "test", seed=seed) for method, found in items.items()}
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
        "recalled": {cell: {m: recalled[m][cell] for m in items} for cell in recalled["vanilla"]},
        "forget_outcomes": outcomes(items["mllmeraser"], "test"),
        "accuracy": {
            name: {method: share(found, name, seed=seed) for method, found in items.items()}
            for name in ("retain_heldout", "celebrity", "general", "perception")
        },
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Run the plan and write the results."""
    parser = study_parser("forgetting", __doc__, "embedded-NAME.json")
    parser.add_argument("--preset", default="default")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, preset=args.preset)
    for split, fold in PLAN:
        key = f"{split}, fold {fold}"
        if key not in report:
            report.add(key, study(model, benchmark, split, fold, args.preset, args.seed))
            print(key, {name: report[key][name] for name in ("fit_seconds", "auc", "detected", "forget_outcomes")},
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
