"""Two ways to decide, and both together: ``python -m mllmeraser.studies.deciding``.

The gates of `default` look for names and faces wherever they stand. The discriminant of `knowledge` reads what the
model has worked out at the last prompt token, and is fitted in conversations too. Both are made for the same people,
from the same pictures and names, and answer the same questions in contexts; attached together, either may fire.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from mllmeraser.benchmarks import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.fit.background_prompts import NAMES
from mllmeraser.evaluation.attacks.asked import answers, compared
from mllmeraser.evaluation.attacks.in_context import prompts
from mllmeraser.knowledge.surroundings import Nearby, surrounded
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples import Request, Sample
from mllmeraser.studies.erasers import eraser_of, preset_settings
from mllmeraser.studies.record import begin, study_parser

SHARE = 0.5
"""Of the prompts that the discriminant also sees in a conversation."""


def request_in_contexts(model: MultimodalModel, benchmark: Benchmark, split: str, fold: int, seed: int) -> Request:
    """The completed request of an operator, with a part of its prompts in conversations too."""
    request = complete(forget_request(benchmark, split, fold), seed=seed, benchmark=benchmark.name).request
    told = [(sample.prompt, sample.answer) for sample in request.retain if sample.image is None and sample.answer]
    near, draw = Nearby(told, NAMES), Stream("deciding", split, fold, seed)

    def more(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        open_ones = [sample for sample in samples if sample.task != "classification"]
        made = [surrounded(sample, near, draw) for sample in open_ones if draw.chance(SHARE)]
        return (*samples, *(sample for sample in made if not sample.before or model.takes(sample)))

    subjects = tuple(replace(subject, samples=more(subject.samples)) for subject in request.subjects)
    return replace(request, subjects=subjects, retain=more(request.retain))


def ways(model: MultimodalModel, benchmark: Benchmark, split: str, fold: int, seed: int) -> dict[str, list[Eraser]]:
    """Erasers that are attached together, by the way to decide."""
    looking = eraser_of(model, benchmark, "default", split=split, fold=fold, seed=seed)
    request = request_in_contexts(model, benchmark, split, fold, seed)
    resolved = fit(model, request, preset_settings("knowledge", seed)).eraser
    return {"names and faces": [looking], "last token": [resolved], "both": [looking, resolved]}


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("deciding", __doc__, "deciding-NAME-foldFOLD.json", split=True)
    parser.add_argument("--pool", choices=("validation", "test"), default="test")
    parser.add_argument("--most", type=int, default=12, help="questions of each kind, side and modality")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "pool", "most")
    asked = prompts(benchmark, args.split, args.fold, args.pool, args.most, args.seed)
    bare = answers(model, asked)
    for way, erasers in ways(model, benchmark, args.split, args.fold, args.seed).items():
        with ExitStack() as attached:
            for eraser in erasers:
                attached.enter_context(eraser.attached(model))
            told = answers(model, asked)
        counts = compared(asked, bare, told)
        for side in ("forgotten", "stays"):
            cells = [cell for kind, cell in counts.items() if kind.startswith(side)]
            print(
                way, side, sum(cell["left"] for cell in cells), "of", sum(cell["known"] for cell in cells), flush=True
            )
        report.add(way, {"bytes": sum(eraser.nbytes for eraser in erasers), "kinds": counts})


if __name__ == "__main__":
    main()
