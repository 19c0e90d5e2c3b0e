"""Does forgetting somebody spread to look-alikes? ``python -m mllmeraser.studies.look_alikes``.

Decisions of `default` on every open question about everybody who stays, and the right answers they cost. Beside it, how
well the bare model itself recognizes the planned look-alikes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.portraits.taught import world_of
from mllmeraser.samples import Sample
from mllmeraser.studies import crowd
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import AnswerCache, Share, ask, share_of

SPLITS = (("forget_5", 0), ("forget_5", 1), ("forget_15", 0))


def counted(
    samples: Sequence[Sample], fired: Sequence[bool], right: Sequence[bool], alike: Collection[str], *, seed: int
) -> dict[str, Any]:
    """Share of prompts on which the eraser fires: all prompts, pictures of ``alike``, and the number by person.

    ``right`` says which answers of the bare model are right. `lost` is the share of those lost among all answers,
    `known` the share of right answers about pictures of ``alike``.
    """
    people = [sample.subject or sample.id for sample in samples]
    near = [row for row, sample in enumerate(samples) if sample.image is not None and sample.subject in alike]

    def of(hits: Sequence[bool], rows: Sequence[int]) -> Share | None:
        return share_of([hits[row] for row in rows], [people[row] for row in rows], seed=seed) if rows else None

    everyone = range(len(samples))
    return {
        "everybody": of(fired, everyone),
        "lost": of([hit and was for hit, was in zip(fired, right, strict=True)], everyone),
        "pictures of look-alikes": of(fired, near),
        "known": of(right, near),
        "by_person": dict(Counter(who for who, hit in zip(people, fired, strict=True) if hit)),
    }


def main(argv: list[str] | None = None) -> None:
    """Read every prompt and write the results."""
    args, model, benchmark, report = begin(study_parser("look_alikes", __doc__, "look-alikes-NAME.json"), argv)
    world, bare = world_of(benchmark.name), AnswerCache(model)
    for split, fold in SPLITS:
        key = f"{split}, fold {fold}"
        if key in report:
            continue
        alike = {other.key for other in crowd.look_alikes(world, benchmark.forget_ids(split, fold)).values()}
        eraser = eraser_of(model, benchmark, "default", split=split, fold=fold, seed=args.seed)
        samples = [s for s in benchmark.samples("retain_heldout", split, fold) if s.task == "generation"]
        fired = (read_gate(model, eraser, samples).pooled > (eraser.config.threshold or 0.0)).tolist()
        before = ask(bare, benchmark, {"retain_heldout": samples}, None, split=split, seed=args.seed)
        right = {item["id"]: item["correct"] for item in before}
        report.add(key, counted(samples, fired, [right[sample.id] for sample in samples], alike, seed=args.seed))
        print(key, report[key], flush=True)


if __name__ == "__main__":
    main()
