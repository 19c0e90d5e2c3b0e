"""What must still be answered beside the forgotten: ``python -m mllmeraser.studies.beside``.

Questions about what the forgotten people's pictures show, and questions about the world that name a forgotten person in
passing. No fit and no training contains these wordings. An answer is kept if it is the one of the bare model. Answers
that the bare model itself refuses or does not know are not counted.
"""

from __future__ import annotations

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.evaluation.attacks.asked import Asked, answers
from mllmeraser.portraits.contexts import PASSING, SEEN
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER, Pool
from mllmeraser.samples.conversation import question
from mllmeraser.samples.intervals import wilson
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import begin, study_parser

PICTURES, QUESTIONS = 12, 8


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("beside", __doc__, "beside-NAME.json", split=True)
    parser.add_argument("--pool", choices=("validation", "test"), default="test")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "pool")
    asked = [
        *perception(benchmark, args.split, args.fold, args.pool),
        *passing(benchmark, args.split, args.fold, args.pool),
    ]
    eraser = eraser_of(model, benchmark, "default", split=args.split, fold=args.fold, seed=args.seed)
    bare = answers(model, asked)
    with eraser.attached(model):
        erased = answers(model, asked)
    for kind in dict.fromkeys(one.kind for one in asked):
        rows = zip(asked, bare, erased, strict=True)
        same = [a == b for one, a, b in rows if one.kind == kind and a != UNKNOWN_ANSWER]
        kept = sum(same)
        low, high = wilson(kept, len(same)) if same else (0.0, 1.0)
        group, _, wording = kind.partition(": ")
        report.add(kind, {"group": group, "wording": wording, "n": len(same), "kept": kept, "low": low, "high": high})
        print(kind, f"{kept} of {len(same)}", flush=True)


def perception(benchmark: Benchmark, split: str, fold: int, pool: Pool) -> list[Asked]:
    """Every wording over pictures of the people to forget."""
    rows = benchmark.samples("test", split, fold)
    pictures = [sample for sample in rows if sample.image is not None and sample.task == "generation"]
    return [
        Asked(f"what a picture shows: {wording}", True, sample, question(wording, sample.image))
        for wording in SEEN[pool]
        for sample in thin(pictures, PICTURES)
    ]


def passing(benchmark: Benchmark, split: str, fold: int, pool: Pool) -> list[Asked]:
    """Questions about the world that name a person to forget."""
    names = [benchmark.names[key][0] for key in benchmark.forget_ids(split, fold)]
    facts = [sample for sample in benchmark.samples("general", split, fold) if sample.image is None]
    return [
        Asked(
            f"a name in passing: {wording}", True, sample, question(wording.format(name=name, question=sample.question))
        )
        for wording in PASSING[pool]
        for name in names
        for sample in thin(facts, QUESTIONS)
    ]


if __name__ == "__main__":
    main()
