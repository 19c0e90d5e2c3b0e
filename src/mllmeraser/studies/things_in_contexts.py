"""Countries and famous people in conversations: ``python -m mllmeraser.studies.things_in_contexts``.

As `studies.contexts`, for what a model knew before it was taught anything: one eraser for each subject, made from its
name and in the preset `knowledge`. A leak is a fact that the bare model tells in a context and the erased one too.
"""

from __future__ import annotations

from typing import Any

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.evaluation.attacks.asked import answers, compared
from mllmeraser.evaluation.attacks.in_context import BEGUN, prompts
from mllmeraser.models import MultimodalModel
from mllmeraser.studies.knowledge import SPLIT, TOKENS, request_for
from mllmeraser.studies.record import begin, study_parser


def measured(
    model: MultimodalModel, benchmark: Benchmark, fold: int, *, most: int, seed: int = 0, pool: str = "test"
) -> dict[str, Any]:
    """Counts of each kind of context and each side, for the subject of one fold."""
    found = prompts(benchmark, SPLIT, fold, pool, most, seed)  # type: ignore[arg-type]
    asked = [one for one in found if not one.conversation.images and not one.kind.startswith(BEGUN)]
    request = complete(request_for(benchmark, fold), model, seed=seed).request
    eraser = fit(model, request, FitSettings.preset("knowledge").model_copy(update={"seed": seed})).eraser
    bare = answers(model, asked, tokens=TOKENS)
    with eraser.attached(model):
        erased = answers(model, asked, tokens=TOKENS)
    return compared(asked, bare, erased)


def main(argv: list[str] | None = None) -> None:
    """Measure every subject, and write the results."""
    parser = study_parser("things_in_contexts", __doc__, "things-in-contexts-NAME.json")
    parser.add_argument("--most", type=int, default=6, help="questions of each kind and side for a subject")
    parser.add_argument("--folds", type=int, default=10)
    parser.set_defaults(model="embedded:smol")
    args, model, _, report = begin(parser, argv, "most")
    for preset in ("countries", "people"):
        benchmark = load_benchmark(f"knowledge:{preset}")
        for fold in range(args.folds):
            key = f"{preset}/{fold}"
            if key not in report:
                report.add(key, measured(model, benchmark, fold, most=args.most, seed=args.seed))
            known = {side: _sums(report[key], side) for side in ("forgotten", "stays")}
            print(key, known, flush=True)


def _sums(entry: dict[str, Any], side: str) -> tuple[int, int]:
    """Known before, and still told."""
    cells = [cell for name, cell in entry.items() if name.startswith(side)]
    return sum(cell["known"] for cell in cells), sum(cell["left"] for cell in cells)


if __name__ == "__main__":
    main()
