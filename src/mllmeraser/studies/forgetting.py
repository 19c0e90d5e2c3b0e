"""How well the default forgets on a model: ``python -m mllmeraser.studies.forgetting``.

Splits of 5, 10 and 15 % on five folds each: recall of the forgotten people before and after, the outcomes of their
answers, and the loss on everything else.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from mllmeraser.benchmarks import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import Sizes, forget_request, scored_sets
from mllmeraser.erasure import FitSettings
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.gates.conformal import auc, wilson
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models import MultimodalModel
from mllmeraser.studies.erasers import preset_settings, state_cache
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import AnswerCache, ask, by_cell, outcomes, share

SPLITS = ("forget_5", "forget_10", "forget_15")


def study(
    model: MultimodalModel,
    bare: AnswerCache,
    benchmark: Benchmark,
    split: str,
    fold: int,
    settings: FitSettings,
    cache: PromptStateCache | None,
) -> dict[str, Any]:
    """Fit on one split and fold; score the ``bare`` model and the model with the eraser."""
    seed = settings.seed
    sets = scored_sets(benchmark, split, Sizes(retain_heldout=240, celebrity=24, general=10**6, holdout=24), fold)
    request = complete(forget_request(benchmark, split, fold), seed=seed, benchmark=benchmark.name).request
    made = fit(model, request, settings, cache=cache)
    scores = {name: read_gate(model, made.eraser, samples).pooled for name, samples in sets.items()}
    threshold = made.eraser.config.threshold or 0.0
    fired = {name: int((values > threshold).sum()) for name, values in scores.items()}
    before = ask(bare, benchmark, sets, None, split=split, seed=seed)
    # if the eraser fires on no prompt of a set, its answers are bit-identical to the bare model's
    asked = {name: samples for name, samples in sets.items() if fired[name] or settings.policy.phi != "threshold"}
    after = ask(model, benchmark, asked, made.eraser, split=split, seed=seed)
    items = {"vanilla": before, "mllmeraser": [*after, *(item for item in before if item["set"] not in asked)]}
    low, high = wilson(fired["retain_heldout"], len(scores["retain_heldout"]))
    recalled = {method: by_cell(own, "test", seed=seed) for method, own in items.items()}
    return {
        "split": split,
        "fold": fold,
        "people": len(request.subjects),
        "bytes": made.eraser.nbytes,
        "auc": auc(scores["test"], scores["retain_heldout"]),
        "detected": fired["test"] / len(scores["test"]),
        "false_alarms": {"stated": made.eraser.config.calibration.false_alarm_rate_promised,
                         "measured": fired["retain_heldout"] / len(scores["retain_heldout"]), "ci": [low, high]},
        "recalled": {cell: {m: recalled[m][cell] for m in items} for cell in recalled["vanilla"]},
        "forget_outcomes": outcomes(items["mllmeraser"], "test"),
        "accuracy": {
            name: {method: share(own, name, seed=seed) for method, own in items.items()}
            for name in ("retain_heldout", "celebrity", "general", "perception")
        },
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure every split and fold, and write the results."""
    parser = study_parser("forgetting", __doc__, "embedded-NAME.json")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS, help="default: all")
    parser.add_argument("--folds", type=int, default=5, help="the first so many")
    args, model, benchmark, report = begin(parser, argv, "preset")
    settings = preset_settings(args.preset, args.seed)
    # only the subject gate can keep states between fits
    cache = state_cache(model, settings) if settings.gate.kind == "subject" else None
    bare = AnswerCache(model)
    for split, fold in product(args.splits, range(args.folds)):
        key = f"{split}, fold {fold}"
        if key not in report:
            report.add(key, study(model, bare, benchmark, split, fold, settings, cache))
            print(key, {name: report[key][name] for name in ("auc", "detected", "forget_outcomes")}, flush=True)


if __name__ == "__main__":
    main()
