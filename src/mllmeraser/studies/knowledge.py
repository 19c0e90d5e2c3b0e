"""Forget what a model knew before, one at a time: countries, famous people, topics, scene concepts, single facts.

Only questions that the bare model answers right count. The wordings are those of the pool `test`; fits use `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mllmeraser.benchmarks import Benchmark, load_benchmark, thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.evaluation.outcomes import judge
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Kind, Subject
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import AnswerCache, share_of

SPLIT = "forget_1"
KINDS: dict[str, Kind] = {"countries": "entity", "people": "entity", "topics": "topic", "concepts": "concept"}
"""The presets of the benchmark, and what their subjects are."""
FACT = {"countries": "capital", "people": "profession"}
"""The fact that is forgotten alone."""
TOKENS = 24
"""Longest answer."""
SIZES = {"neighbours": None, "retain_heldout": 90, "general": 150}
"""Prompts of each set about others, of each modality; None: all."""


def request_for(benchmark: Benchmark, fold: int, fact: str | None = None) -> Request:
    """What an operator gives: a name; one question for a fact; questions over pictures for a scene concept."""
    (key,) = benchmark.forget_ids(SPLIT, fold)
    name, kind = benchmark.names[key][0], KINDS[preset_of(benchmark)]
    if fact is None and kind != "concept":
        return _request(key, name, kind, Sample(f"What is {name}?"))
    samples = benchmark.samples("train_forget", SPLIT, fold)
    if fact is None:
        return _request(key, name, kind, *(Sample(s.question, s.image) for s in samples))
    question = next(s.question for s in samples if s.attribute == fact and s.image is None)
    return _request(key, name, "fact", Sample(question))


def _request(key: str, name: str, kind: Kind, *samples: Sample) -> Request:
    return Request((Subject(key, (name,), tuple(replace(s, subject=key) for s in samples), kind=kind),))


def preset_of(benchmark: Benchmark) -> str:
    """The preset of a loaded benchmark `knowledge`."""
    return benchmark.name.partition(":")[2]


def scored_sets(benchmark: Benchmark, fold: int, fact: str | None, *, pictures: bool) -> dict[str, list[Sample]]:
    """What is to be forgotten, other facts of the same subject, its neighbours, others, and the world."""
    about = [s for s in benchmark.samples("test", SPLIT, fold) if pictures or s.image is None]
    sets = {"forget": [s for s in about if fact in (None, s.attribute)]}
    if fact is not None:
        sets["same subject"] = [s for s in about if s.attribute != fact]
    for name, most in SIZES.items():
        samples = [s for s in benchmark.samples(name, SPLIT, fold) if pictures or s.image is None]
        sets[name] = samples if most is None else thin(samples, most)
    return sets


def measured(
    model: MultimodalModel,
    bare: AnswerCache,
    benchmark: Benchmark,
    fold: int,
    fact: str | None,
    *,
    pictures: bool,
    seed: int = 0,
) -> dict[str, Any]:
    """One subject, or one fact of it: what is left of every set, and how the forgotten prompts are answered."""
    request = complete(request_for(benchmark, fold, fact), model, seed=seed).request
    settings = FitSettings.preset("knowledge").model_copy(update={"seed": seed})
    eraser = fit(model, request, settings).eraser
    found: dict[str, Any] = {
        "subject": benchmark.forget_ids(SPLIT, fold)[0],
        "detected": eraser.config.calibration.detected,
    }
    for name, samples in scored_sets(benchmark, fold, fact, pictures=pictures).items():
        before = right_answers(samples, bare.generate(samples, max_new_tokens=TOKENS))
        known = [sample for sample, right in zip(samples, before, strict=True) if right]
        if not known:
            found[name] = {"known": 0, "asked": len(samples)}
            continue
        with eraser.attached(model):
            said = model.generate(known, max_new_tokens=TOKENS)
        after = right_answers(known, said)
        found[name] = {"known": len(known), "asked": len(samples), "right": sum(after)}
        if name == "forget":
            reply = eraser.config.reply
            found[name]["replied"] = sum(text == reply.text for text in said) if reply is not None else 0
        wrong = name == "forget"
        found[name]["leaked" if wrong else "lost"] = [
            sample.question for sample, right in zip(known, after, strict=True) if right == wrong
        ]
    return found


def right_answers(samples: Sequence[Sample], answers: Sequence[str]) -> list[bool]:
    """Whether each answer tells the fact."""
    return [judge(sample, answer).outcome == "recalled" for sample, answer in zip(samples, answers, strict=True)]


def summary(entries: Sequence[dict[str, Any]], name: str) -> dict[str, float | int] | None:
    """Share of the known that is still right over all subjects, with its interval over subjects."""
    hits, who = [], []
    for entry in entries:
        cell = entry.get(name, {"known": 0})
        hits += [True] * cell.get("right", 0) + [False] * (cell["known"] - cell.get("right", 0))
        who += [entry["subject"]] * cell["known"]
    return dict(share_of(hits, who)) if hits else None


def main(argv: list[str] | None = None) -> None:
    """Measure every subject and fact, and write the results."""
    parser = study_parser("knowledge", __doc__, "knowledge-NAME.json")
    parser.add_argument("--presets", nargs="+", choices=list(KINDS), default=list(KINDS), help="default: all")
    parser.add_argument("--no-pictures", action="store_true", help="ask by name alone; not for concepts")
    parser.add_argument("--folds", type=int, default=10)
    parser.set_defaults(model="embedded:smol")
    args, model, _, report = begin(parser, argv)
    if args.no_pictures and "concepts" in args.presets:
        parser.error("concepts are asked over pictures alone: leave out --no-pictures, or name other --presets")
    bare = AnswerCache(model)
    for preset in args.presets:
        benchmark = load_benchmark(f"knowledge:{preset}")
        for fact in dict.fromkeys((None, FACT.get(preset))):
            entries = []
            for fold in range(args.folds):
                key = f"{preset}/{fact or 'everything'}/{fold}" + ("/by name" if args.no_pictures else "")
                if key not in report:
                    entry = measured(model, bare, benchmark, fold, fact, pictures=not args.no_pictures, seed=args.seed)
                    report.add(key, entry)
                entries.append(report[key])
                print(key, report[key], flush=True)
            for name in ("forget", "same subject", "neighbours", "retain_heldout", "general"):
                print(preset, fact, name, summary(entries, name), flush=True)


if __name__ == "__main__":
    main()
