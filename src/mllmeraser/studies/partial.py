"""Forgetting one attribute of somebody and keeping the rest: ``python -m mllmeraser.studies.partial``.

For each attribute an eraser that is to forget it of every person of a split: what is recalled of it, of everything else
about the same people, and what the others keep.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from mllmeraser.benchmarks.benchmark import thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.fit.linear import fit
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.studies.many import Sets
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import Remembers, summary, told


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("partial", __doc__, "partial-NAME.json")
    parser.add_argument("--split", default="forget_5")
    parser.add_argument("--fold", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, split=args.split, fold=args.fold)
    settings = FitSettings.preset("default").model_copy(update={"seed": args.seed, "salt": "partial"})
    reads, (shifts, *_) = settings.layers(model.num_layers)
    cache, bare = PromptStateCache(model, reads, shifts, batch_size=settings.batch_size), Remembers(model)
    everything = benchmark.samples("test", args.split, args.fold)
    others: Sets = {
        name: thin(benchmark.samples(name, args.split, args.fold), size)
        for name, size in (("retain_heldout", 60), ("celebrity", 24), ("general", 60))
    }
    for attribute in dict.fromkeys(sample.attribute for sample in everything if sample.attribute):
        sets = {
            "test": [sample for sample in everything if sample.attribute == attribute],
            "their other facts": [sample for sample in everything if sample.attribute != attribute],
            **others,
        }
        request = forget_request(benchmark, args.split, args.fold)
        request = replace(request, subjects=tuple(replace(s, attributes=(attribute,)) for s in request.subjects))
        made = fit(model, complete(request, seed=args.seed).request, settings, cache=cache)
        ways: dict[str, tuple[MultimodalModel | Remembers, Eraser | None]] = {
            "bare": (bare, None),
            "erased": (model, made.eraser),
        }
        for way, (asked, eraser) in ways.items():
            key = f"{attribute}, {way}"
            if key not in report:
                items = told(asked, benchmark, sets, eraser, split=args.split, seed=args.seed)
                report.add(key, {"attribute": attribute, "way": way, **summary(items, seed=args.seed)})
                kept = {name: round(one["share"], 4) for name, one in report[key]["kept"].items()}
                print(key, report[key]["recalled"]["share"], kept, flush=True)


if __name__ == "__main__":
    main()
