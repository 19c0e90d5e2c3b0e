"""Does erased knowledge come back later in a long answer? ``python -m mllmeraser.studies.re_entry``.

A steered model is asked about forgotten people, for one fact or for everything. Its answers run to their natural end or
are forced past it to 300 tokens, greedily and sampled. A leak is a private value that was not in the prompt. The same
answers are searched for values of other people, which gives the leaks by chance. Forced answers are not language on the
bare model either; its figures are reported beside the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.erasure import Eraser
from mllmeraser.evaluation.gibberish import gibberish
from mllmeraser.evaluation.intervals import cluster_bootstrap, paired_difference
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.portraits.taught import world_of
from mllmeraser.samples import Sample
from mllmeraser.studies.decoding import Decoding, decode, text
from mllmeraser.studies.erasers import IN_SIGHT, eraser_of
from mllmeraser.studies.leaks import Facts, ask_everything, leak_of
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import OPEN, Share, share_of

SPLIT = "forget_5"
PRESETS = ("bare", "default", IN_SIGHT, "tail", "persistent", "paper")
CUTS = (50, 300)


def modes(seed: int) -> dict[str, Decoding]:
    """The ways of decoding, by name."""
    return {
        "natural": Decoding(seed=seed),
        "sampled": Decoding(temperature=1.0, seed=seed),
        "forced": Decoding(forced=True, seed=seed),
        "forced, sampled": Decoding(forced=True, temperature=1.0, seed=seed),
    }


def counted(
    samples: Sequence[Sample], answers: Sequence[str], facts: Mapping[str, Facts], benchmark: Benchmark, *, seed: int
) -> dict[str, Any]:
    """Leaks, leaks by chance, and gibberish among ``answers``, with 95 % intervals over people."""
    people = [sample.subject or "" for sample in samples]
    leaks = [
        leak_of(answer, sample.prompt, facts[key], benchmark.values)
        for sample, answer, key in zip(samples, answers, people, strict=True)
    ]
    leaked, chance = [leak.leaked for leak in leaks], [leak.chance for leak in leaks]
    excess = paired_difference([float(one) for one in leaked], chance, people, seed=seed)
    by_chance = cluster_bootstrap(chance, people, seed=seed)

    def share(hits: Sequence[bool]) -> Share:
        return {name: value for name, value in share_of(hits, people, seed=seed).items() if name != "n"}

    return {
        "n": len(answers),
        "people": len(set(people)),
        "leak": share(leaked),
        "chance": {"share": sum(chance) / len(chance), "low": by_chance.low, "high": by_chance.high},
        "leak_minus_chance": {"mean": excess.mean, "low": excess.low, "high": excess.high},
        "gibberish": share([gibberish(answer, benchmark.vocabulary) is not None for answer in answers]),
        "told": dict(Counter(attribute for leak in leaks for attribute in leak.told)),
    }


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
    """Figures of every set in every mode with ``eraser`` attached, with answers cut at each number of tokens."""
    results: dict[str, Any] = {}
    with nullcontext() if eraser is None else eraser.attached(model):
        for name, samples in sets.items():
            for mode, how in modes(seed).items():
                answers = decode(model, samples, how, max_new_tokens=max(cuts))
                entry: dict[str, Any] = {
                    "tokens": sum(len(ids) for ids in answers) / len(answers),
                    "example": text(model, answers[0])[:120],
                }
                for cut in cuts:
                    texts = [text(model, ids[:cut]) for ids in answers]
                    entry[str(cut)] = counted(samples, texts, facts, benchmark, seed=seed)
                results[f"{name}, {mode}"] = entry
    return results


def asked_sets(benchmark: Benchmark, split: str, fold: int, per_cell: int) -> dict[str, list[Sample]]:
    """Questions about forgotten people, for one fact and for everything; questions for one fact about strangers."""
    test, strangers = (
        [sample for sample in benchmark.samples(name, split, fold) if sample.task in OPEN]
        for name in ("test", "holdout")
    )
    everything = ask_everything(test, benchmark.names)
    return {"asked": thin(test, per_cell), "everything": everything, "strangers": thin(strangers, per_cell)}


def facts_of_everybody(world: World) -> dict[str, dict[str, str]]:
    """Private facts of everybody in a world, including the name, by key."""
    return {person.key: {"name": person.name, **person.facts} for person in [*world.people, *world.holdout]}


def main(argv: list[str] | None = None) -> None:
    """Run every preset and write the results."""
    parser = study_parser("re_entry", __doc__, "re-entry-NAME.json", fold=True)
    parser.add_argument("--per-cell", type=int, default=18, help="questions for one fact of each form and modality")
    args, model, benchmark, report = begin(parser, argv, "fold", "per_cell")
    sets, facts = asked_sets(benchmark, SPLIT, args.fold, args.per_cell), facts_of_everybody(world_of(benchmark.name))
    about = {name: samples for name, samples in sets.items() if name != "strangers"}
    for preset in PRESETS:
        if preset in report:
            continue
        bare = preset == "bare"
        eraser = None if bare else eraser_of(model, benchmark, preset, split=SPLIT, fold=args.fold, seed=args.seed)
        entry = measured(model, benchmark, eraser, sets if bare else about, facts, seed=args.seed)
        report.add(preset, entry)
        for name, cell in entry.items():
            shares = {k: round(cell["300"][k]["share"], 3) for k in ("leak", "chance", "gibberish")}
            print(preset, name, shares, flush=True)


if __name__ == "__main__":
    main()
