"""How well the default forgets on a model: ``python -m mllmeraser.studies.forgetting``.

Splits of 5, 10 and 15 % on five folds each: recall of the forgotten before and after, what became of their answers,
and what the rest lost.
"""

from __future__ import annotations

from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import Sizes, forget_request, scored_sets
from mllmeraser.erasure.fit.linear import fit
from mllmeraser.erasure.gates.conformal import auc, wilson
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.steering.score_prompts import read_gate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import Remembers, by_cell, outcomes, share, told

PLAN = tuple((split, fold) for split in ("forget_5", "forget_10", "forget_15") for fold in range(5))


def study(
    model: MultimodalModel,
    bare: Remembers,
    benchmark: Benchmark,
    split: str,
    fold: int,
    settings: FitSettings,
    cache: PromptStateCache | None,
) -> dict[str, Any]:
    """Fit on one split and fold, and score with and without the eraser; ``bare`` is the model before."""
    seed = settings.seed
    sets = scored_sets(benchmark, split, Sizes(retain_heldout=240, celebrity=24, general=10**6, holdout=24), fold)
    request = complete(forget_request(benchmark, split, fold), seed=seed).request
    made = fit(model, request, settings, cache=cache)
    seen = {name: read_gate(model, made.eraser, samples).pooled for name, samples in sets.items()}
    threshold = made.eraser.config.threshold or 0.0
    fired = {name: int((scores > threshold).sum()) for name, scores in seen.items()}
    before = told(bare, benchmark, sets, None, split=split, seed=seed)
    # where no decision falls on any prompt of a set, its answers are the bare model's to the bit
    asked = {name: samples for name, samples in sets.items() if fired[name] or settings.policy.phi != "threshold"}
    after = told(model, benchmark, asked, made.eraser, split=split, seed=seed)
    items = {"vanilla": before, "mllmeraser": [*after, *(item for item in before if item["set"] not in asked)]}
    low, high = wilson(fired["retain_heldout"], len(seen["retain_heldout"]))
    recalled = {method: by_cell(found, "test", seed=seed) for method, found in items.items()}
    return {
        "split": split,
        "fold": fold,
        "people": len(request.subjects),
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


def _anchors(model: MultimodalModel, settings: FitSettings) -> PromptStateCache | None:
    """States that all rows share, for the gate that knows how to keep them: most prompts are in every request."""
    if settings.gate.kind != "subject":
        return None
    reads, (shifts, *_) = settings.layers(model.num_layers)
    return PromptStateCache(model, reads, shifts, batch_size=settings.batch_size)


def main(argv: list[str] | None = None) -> None:
    """Run the plan and write the results."""
    parser = study_parser("forgetting", __doc__, "embedded-NAME.json")
    parser.add_argument("--preset", default="default")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, preset=args.preset)
    settings = FitSettings.preset(args.preset).model_copy(update={"seed": args.seed, "salt": "study"})
    bare, cache = Remembers(model), _anchors(model, settings)
    for split, fold in PLAN:
        key = f"{split}, fold {fold}"
        if key not in report:
            report.add(key, study(model, bare, benchmark, split, fold, settings, cache))
            print(key, {name: report[key][name] for name in ("auc", "detected", "forget_outcomes")},
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
