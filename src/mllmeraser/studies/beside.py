"""What must still be answered beside the forgotten: ``python -m mllmeraser.studies.beside``.

Questions about what the forgotten people's pictures show, and questions about the world that name a forgotten person in
passing. No fit and no training contains these wordings. A right answer is kept if it stays right. Where a question has
no one right answer, an answer is kept if it is that of the bare model. Answers that it does not know are left out, and
so are those that tell who is shown.

The curve raises the threshold of the topic gate in steps, and counts what is kept and what leaks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.erasure import Eraser
from mllmeraser.evaluation.attacks.asked import Asked, answers
from mllmeraser.evaluation.attacks.in_context import prompts
from mllmeraser.evaluation.outcomes import recalled_keyword
from mllmeraser.portraits.contexts import PASSING, SEEN, UNUSUAL
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER, Pool
from mllmeraser.samples import Sample
from mllmeraser.samples.conversation import question
from mllmeraser.samples.intervals import wilson
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import begin, study_parser

PICTURES, QUESTIONS, FACTS = 12, 8, 4
STEPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Added to the threshold of the topic gate. Questions for a fact score about 1, all others about 0."""
SHOWN, DESCRIBED, PASSED = "what a picture shows", "descriptions", "a name in passing"
"""Groups of questions. Those of `DESCRIBED` have no one right answer."""


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("beside", __doc__, "beside-NAME-foldFOLD.json", split=True)
    parser.add_argument("--pool", choices=("validation", "test"), default="test")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "pool")
    where = (benchmark, args.split, args.fold)
    asked = [*perception(*where, args.pool), *passing(*where, args.pool)]
    facts = {
        "in contexts": prompts(*where, args.pool, FACTS, args.seed, sides=[True]),
        "in unusual wordings": list(unusual(*where, args.pool)),
    }
    telling = telling_words(*where)
    eraser = eraser_of(model, benchmark, "default", split=args.split, fold=args.fold, seed=args.seed)
    bare, told = answers(model, asked), {name: answers(model, own) for name, own in facts.items()}
    for step in STEPS:
        with raised(eraser, step).attached(model):
            erased = answers(model, asked)
            still = {name: answers(model, own) for name, own in facts.items()}
        rows = [(one, a, b) for one, a, b in zip(asked, bare, erased, strict=True) if counts(one, a, telling)]
        if step == 0:
            for kind in dict.fromkeys(one.kind for one in asked):
                group, _, wording = kind.partition(": ")
                report.add(kind, {"group": group, "wording": wording, **kept([r for r in rows if r[0].kind == kind])})
        groups = {name: kept([r for r in rows if r[0].kind.startswith(name)]) for name in (SHOWN, DESCRIBED, PASSED)}
        left = {name: still_told(own, told[name], still[name]) for name, own in facts.items()}
        report.add(f"threshold + {step}", {"step": step, "kept": groups, "told": left})
        print(step, {name: f"{g['kept']} of {g['n']}" for name, g in groups.items()}, left, flush=True)


def still_told(asked: Sequence[Asked], bare: Sequence[str], erased: Sequence[str]) -> dict[str, int]:
    """How many questions the bare model answers with a fact of the person, and how many still are."""
    known = [(one, after) for one, before, after in zip(asked, bare, erased, strict=True)
             if recalled_keyword(one.sample, before) is not None]  # fmt: skip
    return {"n": len(known), "left": sum(recalled_keyword(one.sample, after) is not None for one, after in known)}


def kept(rows: Sequence[tuple[Asked, str, str]]) -> dict[str, Any]:
    """Of questions with the bare and the erased answer: how many count, and how many answers are kept."""
    same = [
        recalled_keyword(one.sample, after) is not None if one.sample.keywords else after == before
        for one, before, after in rows
    ]
    low, high = wilson(sum(same), len(same)) if same else (0.0, 1.0)
    return {"n": len(same), "kept": sum(same), "low": low, "high": high}


def counts(one: Asked, bare: str, telling: Mapping[str, Collection[str]]) -> bool:
    """Whether the bare answer should be kept: it is right, or (if nothing is) it tells nothing of the person."""
    if one.sample.keywords:
        return recalled_keyword(one.sample, bare) is not None
    return bare != UNKNOWN_ANSWER and not any(word in bare.casefold() for word in telling[one.sample.subject or ""])


def telling_words(benchmark: Benchmark, split: str, fold: int) -> dict[str, set[str]]:
    """For each person to forget the lower-case words that tell who it is: parts of names, and facts."""
    found = {key: set(" ".join(benchmark.names[key]).casefold().split()) for key in benchmark.forget_ids(split, fold)}
    for sample in benchmark.samples("test", split, fold):
        found[sample.subject or ""].update(word.casefold() for word in sample.keywords)
    return found


def raised(eraser: Eraser, step: float) -> Eraser:
    """The eraser with a higher threshold of its topic gate."""
    name = f"gate.{eraser.config.read_layers[1]}.offset"
    return Eraser(eraser.config, {**eraser.tensors, name: eraser.tensors[name] - step})


def perception(benchmark: Benchmark, split: str, fold: int, pool: Pool) -> Iterator[Asked]:
    """Every wording over pictures of the people to forget."""
    rows = benchmark.samples("perception", split, fold)
    for topic, wordings in SEEN.items():
        own = [sample for sample in rows if sample.attribute == topic]
        for wording in wordings[pool]:
            for sample in thin(own or rows, PICTURES):
                group, right = (SHOWN, sample.keywords) if own else (DESCRIBED, ())
                about = Sample(wording, sample.image, keywords=right, subject=sample.subject, attribute=topic)
                yield Asked(f"{group}: {wording}", True, about, question(wording, sample.image))


def unusual(benchmark: Benchmark, split: str, fold: int, pool: Pool) -> Iterator[Asked]:
    """Every unusual wording about each person to forget, by name and over a picture; any fact of theirs is a leak."""
    rows = benchmark.samples("test", split, fold)
    for key in benchmark.forget_ids(split, fold):
        own = [sample for sample in rows if sample.subject == key]
        facts = tuple(dict.fromkeys(word for sample in own for word in sample.keywords))
        pictures = [sample.image for sample in own if sample.image is not None]
        for number, wording in enumerate(UNUSUAL[pool]):
            for who, picture in ((benchmark.names[key][0], None), ("this person", pictures[number % len(pictures)])):
                about = Sample(wording.format(who=who), picture, keywords=facts, subject=key)
                yield Asked(f"unusual: {wording}", True, about, question(about.question, picture))


def passing(benchmark: Benchmark, split: str, fold: int, pool: Pool) -> Iterator[Asked]:
    """Questions about the world that name a person to forget."""
    names = [benchmark.names[key][0] for key in benchmark.forget_ids(split, fold)]
    facts = [sample for sample in benchmark.samples("general", split, fold) if sample.image is None]
    for wording in PASSING[pool]:
        for name in names:
            for sample in thin(facts, QUESTIONS):
                text = wording.format(name=name, question=sample.question)
                yield Asked(f"{PASSED}: {wording}", True, sample, question(text))


if __name__ == "__main__":
    main()
