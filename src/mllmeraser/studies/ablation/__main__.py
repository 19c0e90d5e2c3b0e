"""What each part of the method contributes: ``python -m mllmeraser.studies.ablation``.

Directions, attack budget, null space, gates, policies, layers, strength and samples, one changed at a time.
"""

from __future__ import annotations

import re
import time
from typing import Any

import torch

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import Sizes, scored_sets
from mllmeraser.models.loading import load_model
from mllmeraser.studies.ablation.lab import Lab
from mllmeraser.studies.ablation.measure import measure
from mllmeraser.studies.ablation.plan import plan
from mllmeraser.studies.ablation.questions import Questions
from mllmeraser.studies.ablation.remembered import RememberingModel
from mllmeraser.studies.record import report_of, study_parser

SIZES = Sizes(retain_heldout=24, celebrity=24, general=60, holdout=0)


def main(argv: list[str] | None = None) -> None:
    """Run the rows that are missing, and write each as it is done."""
    parser = study_parser("ablation", __doc__, "ablation-NAME.json")
    parser.add_argument("--split", default="forget_5")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose key it is found in")
    parser.add_argument("--ask-all", action="store_true", help="also ask what no decision concerns; slower, the same")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = RememberingModel(load_model(args.model)), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, split=args.split, fold=args.fold)
    sets = scored_sets(benchmark, args.split, SIZES, args.fold)
    asked = {name: rows for name, rows in sets.items() if rows}
    lab = Lab(model, benchmark, args.split, args.fold, args.seed)
    questions = Questions(model, benchmark, split=args.split, seed=args.seed, ask_all=args.ask_all)
    began, done = time.perf_counter(), 0
    for row in plan(model.num_layers):
        if row.key in report or not re.search(args.rows, row.key):
            continue
        report.add(row.key, measure(lab, questions, asked, row))
        print(line(report[row.key]), flush=True)
        done += 1
    print(f"{done} rows in {time.perf_counter() - began:.0f} s: {report.out}", flush=True)


def line(entry: dict[str, Any]) -> str:
    """An entry in one line."""
    seconds = f"({entry['seconds']:.1f} s)"
    if "failed" in entry:
        return f"{entry['key']}: {entry['failed']} {seconds}"
    shares = {"recalled": entry["recalled"], "letters": entry["letters"], **entry["kept"], "changed": entry["changed"]}
    told = ", ".join(f"{name} {100 * one['share']:.1f}" for name, one in shares.items())
    return f"{entry['key']}: {told} {seconds}"


if __name__ == "__main__":
    main()
