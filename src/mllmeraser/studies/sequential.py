"""Requests one after another: ``python -m mllmeraser.studies.sequential`` (the protocol of PULSE).

Each of five rounds forgets more people; those of earlier rounds are no longer retained. After every round, everybody
forgotten so far and the other sets are scored.
"""

from __future__ import annotations

from mllmeraser.benchmarks import thin
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.steering import ErasurePack
from mllmeraser.models import Intervention
from mllmeraser.studies.crowd import Crowd, Sets, thin_by_person
from mllmeraser.studies.erasers import preset_settings
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import OPEN, AnswerCache, Answering, ask, share, summary

ROUNDS = 5
PER_CELL = 6


def main(argv: list[str] | None = None) -> None:
    """Run the rounds and write the results."""
    parser = study_parser("sequential", __doc__, "sequential-NAME.json")
    parser.add_argument("--split", default="forget_5", help="the split with one fold for each round")
    args, model, benchmark, report = begin(parser, argv, "split")
    crowd = Crowd(model, benchmark, preset_settings("default", args.seed, "sequential"))
    rounds = [benchmark.forget_ids(args.split, fold) for fold in range(ROUNDS)]
    ever = {key for keys in rounds for key in keys}
    everything = [*benchmark.samples("test"), *benchmark.samples("retain_heldout")]
    others: Sets = {
        "retain_heldout": thin([s for s in everything if s.subject not in ever], 60),
        "celebrity": thin(benchmark.samples("celebrity"), 24),
        "general": thin(benchmark.samples("general"), 60),
    }
    bare, erasers, gone = AnswerCache(model), dict[str, Eraser](), list[str]()
    for number, keys in enumerate(rounds, 1):
        erasers[str(number - 1)] = crowd.group(keys, gone=gone).eraser
        gone += keys
        sets = {"test": thin_by_person(everything, gone, PER_CELL), **others}
        ways: dict[str, tuple[Answering, Intervention | None]] = {
            "bare": (bare, None),
            "side by side": (model, ErasurePack(erasers)),
            "as one": (model, consolidate(list(erasers.values()))),
        }
        for way, (asked, intervention) in ways.items():
            key = f"round {number}, {way}"
            if key in report:
                continue
            items = ask(asked, benchmark, sets, intervention, split=args.split)
            by_round = {
                str(k): share([i for i in items if i["subject"] in people], "test", tasks=OPEN)
                for k, people in enumerate(rounds[:number], 1)
            }
            report.add(key, {"round": number, "way": way, **summary(items), "recalled_by_round": by_round})
            kept = {name: one["share"] for name, one in report[key]["kept"].items()}
            print(key, report[key]["recalled"]["share"], kept, flush=True)


if __name__ == "__main__":
    main()
