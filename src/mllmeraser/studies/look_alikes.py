"""Does forgetting somebody spread to those who look alike? ``python -m mllmeraser.studies.look_alikes``.

Decisions of `default` on every open question about everybody who stays, none left out, and what they cost: answers that
were right without the eraser. How well the bare model itself tells those apart who were planned to look alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import torch

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.steering.score_prompts import read_gate
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.models.loading import load_model
from mllmeraser.portraits.people import World
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import Remembers, Share, told

SPLITS = (("forget_5", 0), ("forget_5", 1), ("forget_15", 0))


def counted(
    samples: Sequence[Sample], fired: Sequence[bool], right: Sequence[bool], alike: Collection[str], *, seed: int
) -> dict[str, Any]:
    """Share of prompts on which the decision falls, of everybody and of pictures of ``alike``; whose they are.

    `lost` is the share of answers of everybody that were right (``right``) and are no longer, `known` that of right
    answers over pictures of ``alike``, both of the bare model.
    """
    people = [sample.subject or sample.id for sample in samples]
    near = [row for row, sample in enumerate(samples) if sample.image is not None and sample.subject in alike]
    return {
        "everybody": _share(fired, people, seed),
        "lost": _share([hit and was for hit, was in zip(fired, right, strict=True)], people, seed),
        "pictures of look-alikes": _share([fired[row] for row in near], [people[row] for row in near], seed),
        "known": _share([right[row] for row in near], [people[row] for row in near], seed),
        "by_person": dict(Counter(who for who, hit in zip(people, fired, strict=True) if hit)),
    }


def _share(fired: Sequence[bool], people: Sequence[str], seed: int) -> Share | None:
    if not fired:
        return None
    interval = share_interval(fired, people, seed=seed)
    return {"share": sum(fired) / len(fired), "low": interval.low, "high": interval.high, "n": len(fired)}


def main(argv: list[str] | None = None) -> None:
    """Read every prompt and write the results."""
    parser = study_parser("look_alikes", __doc__, "look-alikes-NAME.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark, world = load_model(args.model), load_benchmark(BENCHMARK), World("dev")
    bare = Remembers(model)
    report = report_of(parser, args, model)
    for split, fold in SPLITS:
        key = f"{split}, fold {fold}"
        if key in report:
            continue
        gone = benchmark.forget_ids(split, fold)
        alike = {
            other.key
            for p in world.people
            if p.key in gone
            for kind, other in world.neighbours(p)
            if kind == "look-alike"
        }
        eraser = eraser_of(model, benchmark, "default", split=split, fold=fold, seed=args.seed)
        samples = [s for s in benchmark.samples("retain_heldout", split, fold) if s.task == "generation"]
        fired = (read_gate(model, eraser, samples).pooled > (eraser.config.threshold or 0.0)).tolist()
        before = told(bare, benchmark, {"retain_heldout": samples}, None, split=split, seed=args.seed)
        right = {item["id"]: item["correct"] for item in before}
        correct = [right[sample.id] for sample in samples]
        report.add(key, counted(samples, fired, correct, alike - set(gone), seed=args.seed))
        print(key, report[key], flush=True)


if __name__ == "__main__":
    main()
