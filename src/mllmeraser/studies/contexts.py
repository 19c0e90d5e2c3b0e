"""Erasers in conversations: ``python -m mllmeraser.studies.contexts``.

The questions of a fold are asked in every context, to the bare model and under the eraser: about the people to forget,
and about people who stay. A leak is a fact that the bare model tells in a context and the erased model tells too. Right
answers about those who stay are lost if the erased model no longer gives them. The rivals of `studies.rival` answer
the same questions.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from mllmeraser.benchmarks import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import Eraser
from mllmeraser.evaluation.attacks.asked import Asked, answers, compared
from mllmeraser.evaluation.attacks.in_context import prompts
from mllmeraser.models import MultimodalModel
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import Report, begin, study_parser
from mllmeraser.studies.rival import rival_answers


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("contexts", __doc__, "contexts-NAME-foldFOLD.json", split=True)
    parser.add_argument("--pool", choices=("validation", "test"), default="test")
    parser.add_argument("--most", type=int, default=36, help="questions of each kind, side and modality")
    parser.add_argument("--eraser", help="folder of an eraser for this fold; default: fit one")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "pool", "most")
    asked = prompts(benchmark, args.split, args.fold, args.pool, args.most, args.seed)
    measure(args, model, benchmark, report, asked)


def measure(
    args: Namespace, model: MultimodalModel, benchmark: Benchmark, report: Report, asked: Sequence[Asked]
) -> None:
    """Ask the bare model, the erased one and the rivals; keep the counts of each kind."""
    where = {"split": args.split, "fold": args.fold, "seed": args.seed}
    eraser = Eraser.from_pretrained(args.eraser) if args.eraser else eraser_of(model, benchmark, "default", **where)
    request = complete(
        forget_request(benchmark, args.split, args.fold), seed=args.seed, benchmark=benchmark.name
    ).request
    bare = answers(model, asked)
    with eraser.attached(model):
        erased = answers(model, asked)
    others = rival_answers(model, eraser, request, asked, bare)
    rivals = {name: compared(asked, bare, texts) for name, texts in others.items()}
    for key, entry in compared(asked, bare, erased).items():
        left = {name: own[key]["left"] for name, own in rivals.items()}
        report.add(f"fold {args.fold}: {key}", {"fold": args.fold, **entry, "left_by_rivals": left})
        print(key, entry["known"], entry["left"], left, flush=True)


if __name__ == "__main__":
    main()
