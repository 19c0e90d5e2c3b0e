"""Does a model that never refuses still forget? ``python -m mllmeraser.studies.no_refusal``.

A steering plan that always acts removes all refusals from the model. Erasers are fitted and scored on top of it, and on
the model as it is. Their directions lead to not knowing (`unknown`, `idk`) or, as a contrast, to refusing.
"""

from __future__ import annotations

from contextlib import nullcontext

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.embedded.demo import Sizes, scored_sets
from mllmeraser.erasure import Eraser
from mllmeraser.models import Intervention, MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.studies.erasers import eraser_of, norms, redirected
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import ask, summary
from mllmeraser.studies.unrefusing import InTurn, unrefusing

SPLIT = "forget_5"
SIZES = Sizes(retain_heldout=24, celebrity=16, general=60, holdout=12)
REFUSALS = 60
DIRECTIONS = {"unknown": 1.5, "idk": 2.5, "refusal": 6.0, "clean-image": 4.0}
"""Directions and their strengths. At the strength of the first, the last two hardly change an answer about a person.
They get a strength at which the model as it is refuses."""


def sets_of(benchmark: Benchmark, split: str, fold: int) -> dict[str, list[Sample]]:
    """The scored sets, restricted prompts, and their benign twins."""
    more = {name: thin(benchmark.samples(name, split, fold), REFUSALS) for name in ("restricted", "benign")}
    return {**scored_sets(benchmark, split, SIZES, fold), **more}


def erasers(
    model: MultimodalModel, benchmark: Benchmark, base: Intervention | None, *, fold: int, seed: int
) -> dict[str, Eraser]:
    """An eraser for every direction, fitted on ``model`` with ``base`` attached.

    The directions towards refusing are fitted without ``base``, for a model that never refuses cannot provide them.
    """
    keys = benchmark.forget_ids(SPLIT, fold)
    with nullcontext() if base is None else base.attached(model):
        first = eraser_of(model, benchmark, "default", split=SPLIT, fold=fold, seed=seed)
        made = {"unknown": first.replace_config(strength=DIRECTIONS["unknown"])}
        made["idk"] = redirected(model, first, "idk", keys, strength=DIRECTIONS["idk"], seed=seed)
    for kind in ("refusal", "clean-image"):
        made[kind] = redirected(model, first, kind, keys, strength=DIRECTIONS[kind], seed=seed)
    return made


def main(argv: list[str] | None = None) -> None:
    """Score both models with every direction and write the results."""
    parser = study_parser("no_refusal", __doc__, "no-refusal-NAME.json", fold=True)
    args, model, benchmark, report = begin(parser, argv, "fold")
    sets = sets_of(benchmark, SPLIT, args.fold)
    for name, base in (("as it is", None), ("never refusing", unrefusing(model, seed=args.seed))):
        if all(key in report for key in (name, *(f"{name}, {kind}" for kind in DIRECTIONS))):
            continue
        made: dict[str, Eraser | None] = {"": None, **erasers(model, benchmark, base, fold=args.fold, seed=args.seed)}
        for kind, eraser in made.items():
            key = f"{name}, {kind}" if kind else name
            attached = [part for part in (eraser, base) if part is not None]
            together = InTurn(attached) if attached else None
            figures = summary(ask(model, benchmark, sets, together, split=SPLIT, seed=args.seed), seed=args.seed)
            figures = {"refused": figures["kept"].pop("restricted"), **figures}
            more = {} if eraser is None else {"strength": eraser.config.strength, "norms": norms(eraser)}
            report.add(key, {**more, **figures})
            print(key, figures["refused"]["share"], figures["recalled"]["share"], figures["outcomes"], flush=True)


if __name__ == "__main__":
    main()
