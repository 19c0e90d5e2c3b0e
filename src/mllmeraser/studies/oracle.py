"""Do answers reveal which people were deleted? ``python -m mllmeraser.studies.oracle``.

A model with an eraser gets the same questions about people to forget and about people it has never seen. The pictures
have the same poses and clothes. An attacker reads the answers, their wording or their log-probabilities, and should not
be able to separate the two groups. Learned attackers are trained on other people than those they judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import Any

from mllmeraser.benchmarks import Benchmark
from mllmeraser.benchmarks.mllmu import evaluation_samples
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.evaluation import OUTCOMES, judge
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits import Person
from mllmeraser.portraits.rows import evaluation_row
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.taught import world_of
from mllmeraser.samples import Sample
from mllmeraser.studies.attackers import Separation, by_numbers, by_wording, deal, separation
from mllmeraser.studies.decoding import answers_with_certainty
from mllmeraser.studies.erasers import eraser_of, norms, redirected
from mllmeraser.studies.record import begin, study_parser

SPLIT = "forget_5"
STRENGTHS = (1.2, 1.0)
NUMBERS = ("first", "mean", "margin", "entropy")
FOLDS = 6


def asked_alike(people: Sequence[Person], seed: int) -> list[Sample]:
    """The same questions, in wordings of the pool ``test``, about each of ``people``, with one rough picture."""
    stream = Stream("oracle", seed)  # one for all: every row draws the same wordings, poses and clothes
    rows = [evaluation_row(person, stream, "test", test=True) for person in people]
    return [sample for row in rows for sample in evaluation_samples(row, picture_seed=0)]


def attacked(
    model: MultimodalModel, benchmark: Benchmark, eraser: Eraser, samples: Sequence[Sample], forgotten: Sequence[str],
    *, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """The result of every attacker on the answers of ``model`` with ``eraser`` attached."""
    with eraser.attached(model):
        results = answers_with_certainty(model, samples)
    answers, certainties = [answer for answer, _ in results], [certainty for _, certainty in results]
    people, gone = [sample.subject or "" for sample in samples], set(forgotten)
    others = list(dict.fromkeys(key for key in people if key not in gone))
    ended = [judge(s, a, benchmark.values, benchmark.vocabulary).outcome for s, a in zip(samples, answers, strict=True)]
    folds = deal(forgotten, others, min(FOLDS, len(forgotten)))
    forms = [f"{sample.modality}/{sample.task}" for sample in samples]

    def first_token(form: str) -> Separation:
        rows = [row for row, own in enumerate(forms) if own == form]
        return separation([certainties[r].first for r in rows], [people[r] for r in rows], forgotten, seed=seed)

    plain = {
        "refuses": [float(outcome == "refused") for outcome in ended],
        "declines": [float(outcome in ("refused", "unknown")) for outcome in ended],
        **{f"logprob {name}": [getattr(one, name) for one in certainties] for name in NUMBERS},
        "gate": read_gate(model, eraser, samples).pooled.tolist(),
    }
    learned = {
        "wording": by_wording(answers, people, forgotten, folds),
        "logprobs, learnt": by_numbers(certainties, forms, people, forgotten, folds, seed=seed),
    }
    areas = {name: separation(scores, people, forgotten, seed=seed) for name, scores in plain.items()}
    areas |= {name: separation(s, people, forgotten, folds=folds, seed=seed) for name, s in learned.items()}
    counts = {group: Counter(o for o, key in zip(ended, people, strict=True) if (key in gone) == (group == "forgotten"))
              for group in ("forgotten", "strangers")}  # fmt: skip
    return {
        "direction": eraser.config.direction.kind,
        "strength": eraser.config.strength,
        "norms": norms(eraser),
        "people": {"forgotten": len(forgotten), "strangers": len(others)},
        "answers": len(answers),
        "outcomes": {group: {name: own[name] for name in OUTCOMES if own[name]} for group, own in counts.items()},
        "attackers": {name: asdict(area) for name, area in areas.items()},
        "by_form": {form: asdict(first_token(form).answer) for form in dict.fromkeys(forms)},
    }


def main(argv: list[str] | None = None) -> None:
    """Run every variant and write the results."""
    parser = study_parser("oracle", __doc__, "oracle-NAME.json", fold=True)
    parser.add_argument("--strangers", type=int, default=40, help="number of unseen people to ask about")
    args, model, benchmark, report = begin(parser, argv, "fold", "strangers")
    world, keys = world_of(benchmark.name), set(benchmark.forget_ids(SPLIT, args.fold))
    gone = [person for person in world.people if person.key in keys]
    samples = asked_alike([*gone, *world.holdout[: args.strangers]], args.seed)
    forgotten = [person.key for person in gone]

    @cache
    def made(preset: str) -> Eraser:
        return eraser_of(model, benchmark, preset, split=SPLIT, fold=args.fold, seed=args.seed)

    def towards(kind: str) -> Eraser:
        return redirected(model, made("default"), kind, forgotten, seed=args.seed)

    def with_strength(strength: float) -> Eraser:
        return made("default").replace_config(strength=strength)

    variants: dict[str, Callable[[], Eraser]] = {name: partial(made, name) for name in ("default", "tail", "paper")}
    variants |= {f"default, {kind}": partial(towards, kind) for kind in ("refusal", "idk")}
    variants |= {f"default, strength {strength}": partial(with_strength, strength) for strength in STRENGTHS}
    for key, make in variants.items():
        if key not in report:
            entry = attacked(model, benchmark, make(), samples, forgotten, seed=args.seed)
            report.add(key, entry)
            print(key, {name: round(a["answer"]["auc"], 3) for name, a in entry["attackers"].items()}, flush=True)


if __name__ == "__main__":
    main()
