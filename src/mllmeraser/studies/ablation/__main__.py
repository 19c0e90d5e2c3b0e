"""The contribution of each part of the method: ``python -m mllmeraser.studies.ablation``.

Directions, attack budget, null space, gates, policies, layers, strength and samples, one changed at a time.
"""

from __future__ import annotations

import re
import time
from typing import Any

from mllmeraser.embedded.demo import Sizes, scored_sets
from mllmeraser.studies.ablation.lab import Lab, StateCachingModel
from mllmeraser.studies.ablation.measure import measure
from mllmeraser.studies.ablation.questions import Questions
from mllmeraser.studies.ablation.sections import all_rows
from mllmeraser.studies.record import begin, study_parser

SIZES = Sizes(retain_heldout=24, celebrity=24, general=60, holdout=0)


def main(argv: list[str] | None = None) -> None:
    """Run the missing rows, and write each as soon as it is done."""
    parser = study_parser("ablation", __doc__, "ablation-NAME.json", split=True)
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows with a key that matches")
    parser.add_argument("--ask-all", action="store_true", help="also ask questions whose answers cannot change; slower")
    args, loaded, benchmark, report = begin(parser, argv, "split", "fold")
    model = StateCachingModel(loaded)
    sets = {name: rows for name, rows in scored_sets(benchmark, args.split, SIZES, args.fold).items() if rows}
    lab = Lab(model, benchmark, args.split, args.fold, args.seed)
    questions = Questions(model, benchmark, split=args.split, seed=args.seed, ask_all=args.ask_all)
    began, done = time.perf_counter(), 0
    for row in all_rows(model.num_layers):
        if row.key not in report and re.search(args.rows, row.key):
            report.add(row.key, measure(lab, questions, sets, row))
            print(line(report[row.key]), flush=True)
            done += 1
    print(f"{done} rows in {time.perf_counter() - began:.0f} s: {report.out}", flush=True)


def line(entry: dict[str, Any]) -> str:
    """An entry in one line."""
    seconds = f"({entry['seconds']:.1f} s)"
    if "failed" in entry:
        return f"{entry['key']}: {entry['failed']} {seconds}"
    shares = {"recalled": entry["recalled"], "letters": entry["letters"], **entry["kept"], "changed": entry["changed"]}
    text = ", ".join(f"{name} {100 * one['share']:.1f}" for name, one in shares.items())
    return f"{entry['key']}: {text} {seconds}"


if __name__ == "__main__":
    main()
