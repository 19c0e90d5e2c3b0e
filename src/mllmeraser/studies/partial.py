"""Forgetting one attribute of a person and keeping the rest: ``python -m mllmeraser.studies.partial``.

For each attribute, one eraser of that attribute of every person of a split. The figures are recall of the attribute,
recall of all other facts about these people, and accuracy on the other sets.
"""

from __future__ import annotations

from dataclasses import replace

from mllmeraser.benchmarks import thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.fit import fit
from mllmeraser.studies.crowd import Sets
from mllmeraser.studies.erasers import preset_settings, state_cache
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import AnswerCache, Answering, ask, summary


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("partial", __doc__, "partial-NAME.json", split=True)
    args, model, benchmark, report = begin(parser, argv, "split", "fold")
    settings = preset_settings("default", args.seed, "partial")
    cache, bare = state_cache(model, settings), AnswerCache(model)
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
        ways: tuple[tuple[str, Answering, Eraser | None], ...] = (("bare", bare, None), ("erased", model, made.eraser))
        for way, asked, eraser in ways:
            key = f"{attribute}, {way}"
            if key not in report:
                items = ask(asked, benchmark, sets, eraser, split=args.split, seed=args.seed)
                report.add(key, {"attribute": attribute, "way": way, **summary(items, seed=args.seed)})
                kept = {name: round(one["share"], 4) for name, one in report[key]["kept"].items()}
                print(key, report[key]["recalled"]["share"], kept, flush=True)


if __name__ == "__main__":
    main()
