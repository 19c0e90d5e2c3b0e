"""Requests that come one after another: ``python -m mllmeraser.studies.sequential`` (the protocol of PULSE).

Five rounds; in each, people are forgotten on top of those before, who are not retained any more. After every round all
who were forgotten so far are asked about, and the rest.
"""

from __future__ import annotations

import torch

from mllmeraser.benchmarks.benchmark import thin
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.steering.attach import ErasurePack
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.studies.crowd import Crowd
from mllmeraser.studies.many import Sets
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import OPEN, Remembers, share, summary, told

ROUNDS = 5
PER_CELL = 6


def main(argv: list[str] | None = None) -> None:
    """Run the rounds and write the results."""
    parser = study_parser("sequential", __doc__, "sequential-NAME.json")
    parser.add_argument("--split", default="forget_5", help="whose folds are the rounds")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, split=args.split)
    crowd = Crowd(
        model, benchmark, FitSettings.preset("default").model_copy(update={"seed": args.seed, "salt": "sequential"})
    )
    rounds = [benchmark.forget_ids(args.split, fold) for fold in range(ROUNDS)]
    ever = {key for keys in rounds for key in keys}
    everything = [*benchmark.samples("test"), *benchmark.samples("retain_heldout")]
    others: Sets = {
        "retain_heldout": thin([s for s in everything if s.subject not in ever], 60),
        "celebrity": thin(benchmark.samples("celebrity"), 24),
        "general": thin(benchmark.samples("general"), 60),
    }
    bare, erasers, gone = Remembers(model), dict[str, Eraser](), list[str]()
    for number, keys in enumerate(rounds):
        erasers[str(number)] = crowd.group(keys, gone=gone).eraser
        gone += keys
        sets = {
            "test": [s for key in gone for s in thin([s for s in everything if s.subject == key], PER_CELL)],
            **others,
        }
        ways: dict[str, tuple[MultimodalModel | Remembers, Intervention | None]] = {
            "bare": (bare, None),
            "side by side": (model, ErasurePack(erasers)),
            "as one": (model, consolidate(list(erasers.values()))),
        }
        for way, (asked, intervention) in ways.items():
            key = f"round {number + 1}, {way}"
            if key in report:
                continue
            items = told(asked, benchmark, sets, intervention, split=args.split)
            by_round = {
                str(k + 1): share([i for i in items if i["subject"] in rounds[k]], "test", tasks=OPEN)
                for k in range(number + 1)
            }
            report.add(key, {"round": number + 1, "way": way, **summary(items), "recalled_by_round": by_round})
            print(
                key,
                report[key]["recalled"]["share"],
                {n: s["share"] for n, s in report[key]["kept"].items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
