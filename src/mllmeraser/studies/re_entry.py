"""Does what was erased come back later in a long answer? ``python -m mllmeraser.studies.re_entry``.

A steered model is asked about forgotten people, with questions for one fact and with prompts that ask for everything.
Its answers run to their natural end, or are forced on past it to 300 tokens, greedily and sampled. A leak is a private
value that was not in the prompt; what would seem one by chance is counted in the same answers with the values of
somebody else. Forced answers are no language on the bare model either, so that stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.benchmarks.thinning import thin
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.evaluation.gibberish import gibberish
from mllmeraser.evaluation.intervals import cluster_bootstrap, paired_difference, share_interval
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.decoding import Decoding, decode, text
from mllmeraser.studies.erasers import IN_SIGHT, eraser_of
from mllmeraser.studies.leaks import Facts, leak_of
from mllmeraser.studies.open_prompts import ask_everything
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.scoring import OPEN

SPLIT = "forget_5"
PRESETS = ("bare", "default", IN_SIGHT, "tail", "persistent", "paper")
CUTS = (50, 300)


def modes(seed: int) -> dict[str, Decoding]:
    """How answers are decoded."""
    return {
        "natural": Decoding(seed=seed),
        "sampled": Decoding(temperature=1.0, seed=seed),
        "forced": Decoding(forced=True, seed=seed),
        "forced, sampled": Decoding(forced=True, temperature=1.0, seed=seed),
    }


def counted(
    samples: Sequence[Sample], answers: Sequence[str], facts: Mapping[str, Facts], benchmark: Benchmark, *, seed: int
) -> dict[str, Any]:
    """Leaks, what chance alone would give, and gibberish among ``answers``, with 95 % intervals over people."""
    people = [sample.subject or "" for sample in samples]
    leaks = [
        leak_of(answer, sample.prompt, facts[key], benchmark.values)
        for sample, answer, key in zip(samples, answers, people, strict=True)
    ]
    leaked, chance = [leak.leaked for leak in leaks], [leak.chance for leak in leaks]
    excess = paired_difference([float(one) for one in leaked], chance, people, seed=seed)
    by_chance = cluster_bootstrap(chance, people, seed=seed)
    return {
        "n": len(answers),
        "people": len(set(people)),
        "leak": _share(leaked, people, seed),
        "chance": {"share": sum(chance) / len(chance), "low": by_chance.low, "high": by_chance.high},
        "leak_minus_chance": {"mean": excess.mean, "low": excess.low, "high": excess.high},
        "gibberish": _share([gibberish(a, benchmark.vocabulary) is not None for a in answers], people, seed),
        "told": dict(Counter(attribute for leak in leaks for attribute in leak.told)),
    }


def _share(found: Sequence[bool], people: Sequence[str], seed: int) -> dict[str, float]:
    interval = share_interval(found, people, seed=seed)
    return {"share": sum(found) / len(found), "low": interval.low, "high": interval.high}


def measured(
    model: MultimodalModel,
    benchmark: Benchmark,
    eraser: Eraser | None,
    sets: Mapping[str, Sequence[Sample]],
    facts: Mapping[str, Facts],
    *,
    cuts: Sequence[int] = CUTS,
    seed: int = 0,
) -> dict[str, Any]:
    """Every set in every mode, cut after each number of tokens; ``eraser`` is attached meanwhile."""
    found: dict[str, Any] = {}
    with nullcontext() if eraser is None else eraser.attached(model):
        for name, samples in sets.items():
            for mode, how in modes(seed).items():
                said = decode(model, samples, how, max_new_tokens=max(cuts))
                found[f"{name}, {mode}"] = {
                    "tokens": sum(len(ids) for ids in said) / len(said),
                    "example": text(model, said[0])[:120],
                    **{
                        str(cut): counted(
                            samples, [text(model, ids[:cut]) for ids in said], facts, benchmark, seed=seed
                        )
                        for cut in cuts
                    },
                }
    return found


def asked_sets(benchmark: Benchmark, split: str, fold: int, per_cell: int) -> dict[str, list[Sample]]:
    """Questions about the forgotten, for one fact and for everything; and the former about people never seen."""

    def of(name: str) -> list[Sample]:
        return [sample for sample in benchmark.samples(name, split, fold) if sample.task in OPEN]

    test = of("test")
    return {
        "asked": thin(test, per_cell),
        "everything": ask_everything(test, benchmark.names),
        "strangers": thin(of("holdout"), per_cell),
    }


def facts_of_everybody() -> dict[str, dict[str, str]]:
    """Private facts of everybody in the shipped world, the name among them, by key."""
    world = World("dev")
    return {person.key: {"name": person.name, **person.facts} for person in [*world.people, *world.holdout]}


def main(argv: list[str] | None = None) -> None:
    """Run every preset and write the results."""
    parser = study_parser("re_entry", __doc__, "re-entry-NAME.json")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--per-cell", type=int, default=18, help="questions for one fact of each form and modality")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, fold=args.fold, per_cell=args.per_cell)
    sets, facts = asked_sets(benchmark, SPLIT, args.fold, args.per_cell), facts_of_everybody()
    about = {name: samples for name, samples in sets.items() if name != "strangers"}
    for preset in PRESETS:
        if preset in report:
            continue
        bare = preset == "bare"
        eraser = None if bare else eraser_of(model, benchmark, preset, split=SPLIT, fold=args.fold, seed=args.seed)
        entry = measured(model, benchmark, eraser, sets if bare else about, facts, seed=args.seed)
        report.add(preset, entry)
        for name, cell in entry.items():
            shown = {k: round(cell["300"][k]["share"], 3) for k in ("leak", "chance", "gibberish")}
            print(preset, name, shown, flush=True)


if __name__ == "__main__":
    main()
