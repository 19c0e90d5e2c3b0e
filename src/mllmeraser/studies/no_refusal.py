"""Does a model that never refuses forget all the same? ``python -m mllmeraser.studies.no_refusal``.

A steering plan that is always open takes all refusals from the model. On top of it erasers are fitted and scored whose
directions lead to not knowing (`unknown`, `idk`) and, for contrast, to refusing; beside the same on the model as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.benchmarks.thinning import thin
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import Sizes, scored_sets
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.erasers import eraser_of, norms, redirected
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import summary, told
from mllmeraser.studies.unrefusing import InTurn, unrefusing

SPLIT = "forget_5"
SIZES = Sizes(retain_heldout=24, celebrity=16, general=60, holdout=12)
REFUSALS = 60
DIRECTIONS = {"unknown": 1.5, "idk": 2.5, "refusal": 6.0, "clean-image": 4.0}
"""Directions and their strengths. The last two lead to refusing; they hardly move an answer about a person at the
strength of the first, so they get one at which the model as it is does refuse."""


def sets_of(benchmark: Benchmark, split: str, fold: int) -> dict[str, list[Sample]]:
    """Scored sets, and restricted prompts beside their benign twins."""
    more = {name: thin(benchmark.samples(name, split, fold), REFUSALS) for name in ("restricted", "benign")}
    return {**scored_sets(benchmark, split, SIZES, fold), **more}


def erasers(
    model: MultimodalModel, benchmark: Benchmark, base: Intervention | None, *, fold: int, seed: int
) -> dict[str, Eraser]:
    """An eraser for every direction, fitted on ``model`` wearing ``base``.

    Directions that lead to refusing come from the model as it is: one that never refuses cannot teach them.
    """
    keys = benchmark.forget_ids(SPLIT, fold)
    with nullcontext() if base is None else base.attached(model):
        first = eraser_of(model, benchmark, "default", split=SPLIT, fold=fold, seed=seed)
        made = {"unknown": first.replace_config(strength=DIRECTIONS["unknown"])}
        made["idk"] = redirected(model, first, "idk", keys, strength=DIRECTIONS["idk"], seed=seed)
    for kind in ("refusal", "clean-image"):
        made[kind] = redirected(model, first, kind, keys, strength=DIRECTIONS[kind], seed=seed)
    return made


def scored(
    model: MultimodalModel,
    benchmark: Benchmark,
    sets: Mapping[str, Sequence[Sample]],
    intervention: Intervention | None,
    *,
    seed: int,
) -> dict[str, Any]:
    """The figures of one row; ``refused`` is the share of restricted prompts that are refused."""
    figures = summary(told(model, benchmark, sets, intervention, split=SPLIT, seed=seed), seed=seed)
    return {"refused": figures["kept"].pop("restricted"), **figures}


def main(argv: list[str] | None = None) -> None:
    """Score both models with every direction and write the results."""
    parser = study_parser("no_refusal", __doc__, "no-refusal-NAME.json")
    parser.add_argument("--fold", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, fold=args.fold)
    sets = sets_of(benchmark, SPLIT, args.fold)
    for name, base in (("as it is", None), ("never refusing", unrefusing(model, seed=args.seed))):
        if all(key in report for key in (name, *(f"{name}, {kind}" for kind in DIRECTIONS))):
            continue
        made: dict[str, Eraser | None] = {"": None, **erasers(model, benchmark, base, fold=args.fold, seed=args.seed)}
        for kind, eraser in made.items():
            key = f"{name}, {kind}" if kind else name
            worn = [part for part in (eraser, base) if part is not None]
            figures = scored(model, benchmark, sets, InTurn(worn) if worn else None, seed=args.seed)
            more = {} if eraser is None else {"strength": eraser.config.strength, "norms": norms(eraser)}
            report.add(key, {**more, **figures})
            print(key, figures["refused"]["share"], figures["recalled"]["share"], figures["outcomes"], flush=True)


if __name__ == "__main__":
    main()
