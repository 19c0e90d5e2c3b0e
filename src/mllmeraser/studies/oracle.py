"""Do answers betray who was deleted? ``python -m mllmeraser.studies.oracle``.

People to forget and people the model has never seen are asked exactly the same questions, over pictures in the same
pose and dress, of a model that wears an eraser. Whoever reads the answers, their wording or their log-probabilities
should not be able to tell the two apart. Learnt attackers are learnt on other people than those they judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.mllmu import evaluation_samples
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.score_prompts import read_gate
from mllmeraser.evaluation.outcomes import OUTCOMES, judge
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import Person, World
from mllmeraser.portraits.rows import evaluation_row
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.attackers import by_numbers, by_wording
from mllmeraser.studies.decoding import Certainty, answers_with_certainty
from mllmeraser.studies.erasers import eraser_of, norms, redirected
from mllmeraser.studies.record import report_of, study_parser
from mllmeraser.studies.separation import deal, separation

SPLIT = "forget_5"
STRENGTHS = (1.2, 1.0)
NUMBERS = ("first", "mean", "margin", "entropy")
FOLDS = 6


def asked_alike(people: Sequence[Person], seed: int) -> list[Sample]:
    """The same questions, in wordings of the pool ``test``, about each of ``people``, over one rough picture."""
    stream = Stream("oracle", seed)  # one for all: everybody's row draws the same wordings, poses and dresses
    rows = [evaluation_row(person, stream, "test", test=True) for person in people]
    return [sample for row in rows for sample in evaluation_samples(row, picture_seed=0)]


def attacked(
    model: MultimodalModel, benchmark: Benchmark, eraser: Eraser, samples: Sequence[Sample], forgotten: Sequence[str],
    *, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What every attacker makes of the answers of ``model`` wearing ``eraser``."""
    with eraser.attached(model):
        told = answers_with_certainty(model, samples)
    answers, sure = [answer for answer, _ in told], [one for _, one in told]
    people = [sample.subject or "" for sample in samples]
    others = list(dict.fromkeys(key for key in people if key not in set(forgotten)))
    ended = [judge(s, a, benchmark.values, benchmark.vocabulary).outcome for s, a in zip(samples, answers, strict=True)]
    dealt = deal(forgotten, others, min(FOLDS, len(forgotten)))
    forms = [f"{sample.modality}/{sample.task}" for sample in samples]
    plain = {
        "refuses": [float(outcome == "refused") for outcome in ended],
        "declines": [float(outcome in ("refused", "unknown")) for outcome in ended],
        **{f"logprob {name}": [getattr(one, name) for one in sure] for name in NUMBERS},
        "gate": read_gate(model, eraser, samples).pooled.tolist(),
    }
    learnt = {
        "wording": by_wording(answers, people, forgotten, dealt),
        "logprobs, learnt": by_numbers(sure, forms, people, forgotten, dealt, seed=seed),
    }
    areas = {name: separation(scores, people, forgotten, seed=seed) for name, scores in plain.items()}
    areas |= {name: separation(s, people, forgotten, folds=dealt, seed=seed) for name, s in learnt.items()}
    gone = set(forgotten)
    return {
        "direction": eraser.config.direction.kind,
        "strength": eraser.config.strength,
        "norms": norms(eraser),
        "people": {"forgotten": len(forgotten), "strangers": len(others)},
        "answers": len(answers),
        "outcomes": {
            "forgotten": _counted([o for o, key in zip(ended, people, strict=True) if key in gone]),
            "strangers": _counted([o for o, key in zip(ended, people, strict=True) if key not in gone]),
        },
        "attackers": {name: area.as_dict() for name, area in areas.items()},
        "by_form": _by_form(sure, forms, people, forgotten, seed),
    }


def _counted(outcomes: Sequence[str]) -> dict[str, int]:
    counts = Counter(outcomes)
    return {name: counts[name] for name in OUTCOMES if counts[name]}


def _by_form(
    sure: Sequence[Certainty], forms: Sequence[str], people: Sequence[str], forgotten: Sequence[str], seed: int
) -> dict[str, Any]:
    """The log-probability of the first token, among questions of one form alone."""
    found = {}
    for form in dict.fromkeys(forms):
        rows = [row for row, own in enumerate(forms) if own == form]
        area = separation([sure[r].first for r in rows], [people[r] for r in rows], forgotten, seed=seed)
        found[form] = area.as_dict()["answer"]
    return found


def main(argv: list[str] | None = None) -> None:
    """Run every variant and write the results."""
    parser = study_parser("oracle", __doc__, "oracle-NAME.json")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--strangers", type=int, default=40, help="how many people never seen are asked about")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, fold=args.fold, strangers=args.strangers)
    world, keys = World("dev"), benchmark.forget_ids(SPLIT, args.fold)
    gone = [person for person in world.people if person.key in set(keys)]
    samples = asked_alike([*gone, *world.holdout[: args.strangers]], args.seed)
    forgotten = [person.key for person in gone]
    fitted: dict[str, Eraser] = {}

    def made(preset: str) -> Eraser:
        if preset not in fitted:
            fitted[preset] = eraser_of(model, benchmark, preset, split=SPLIT, fold=args.fold, seed=args.seed)
        return fitted[preset]

    variants = {preset: (lambda p=preset: made(p)) for preset in ("default", "tail", "paper")}
    for kind in ("refusal", "idk"):
        variants[f"default, {kind}"] = lambda k=kind: redirected(model, made("default"), k, forgotten, seed=args.seed)
    for strength in STRENGTHS:
        variants[f"default, strength {strength}"] = lambda s=strength: made("default").replace_config(strength=s)
    for key, make in variants.items():
        if key not in report:
            entry = attacked(model, benchmark, make(), samples, forgotten, seed=args.seed)
            report.add(key, entry)
            print(key, {name: round(a["answer"]["auc"], 3) for name, a in entry["attackers"].items()}, flush=True)


if __name__ == "__main__":
    main()
