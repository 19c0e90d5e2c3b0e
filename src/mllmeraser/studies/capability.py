"""A direction for a model that was never taught "I do not know": ``python -m mllmeraser.studies.capability``.

Such a model still declines what it cannot do ("What is in my pocket?"). Declined requests minus answered ones of the
same kind give a direction (`text-only`). It is added after the decision of `knowledge`, in place of the sentence. The
layers and the strength are those that forget most in the first folds, where nearly all others stay. They are then
measured in other folds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mllmeraser.benchmarks import Benchmark, load_benchmark, thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.policy import TAIL
from mllmeraser.erasure.settings import DirectionSettings, FitSettings, LayerPicks, LayerRange
from mllmeraser.evaluation.outcomes import says_refused, says_unknown
from mllmeraser.knowledge.capabilities import capabilities
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.knowledge import TOKENS, request_for, right_answers, scored_sets
from mllmeraser.studies.record import begin, study_parser
from mllmeraser.studies.scoring import AnswerCache

FEWEST = 4
"""Declined requests that a direction needs."""
CHOOSING, MEASURING = (0, 1), (2, 3, 4, 5)
"""Folds on which layers and strength are chosen, and folds that measure them."""
LAYERS = (
    (LayerPicks(at=(0.34,)), LayerRange(start=0.36, stop=0.7)),
    (LayerPicks(at=(0.5,)), LayerRange(start=0.52, stop=0.8)),
    (LayerPicks(at=(0.83,)), LayerRange(start=0.86, stop=1.0)),
)
"""Where the decision is read, and where states move after it."""
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
KEPT = 0.98
"""Least share of the neighbours' and the others' right answers at a chosen point."""
_AS_A_PROGRAM = re.compile(r"\bas an? (?:[\w-]+ ){0,3}(?:AI|assistant|language model)\b", re.IGNORECASE)


def declines(text: str) -> bool:
    """Whether an answer says that the speaker cannot, does not know, or is a program only."""
    return says_refused(text) or says_unknown(text) or _AS_A_PROGRAM.search(text) is not None


def declined(model: MultimodalModel) -> ContrastSet:
    """The pairs whose first request the model declines and whose second it answers.

    Raises:
        InputError: There are fewer than `FEWEST`.
    """
    pairs = capabilities()
    told = model.generate([sample for pair in pairs for sample in pair], max_new_tokens=TOKENS)
    kept = [
        pair
        for pair, first, second in zip(pairs, told[::2], told[1::2], strict=True)
        if declines(first) and not declines(second)
    ]
    if len(kept) < FEWEST:
        raise InputError(f"the model declines {len(kept)} of {len(pairs)} requests that it cannot do: give others")
    # The direction compares two kinds of prompt; no text that complies is used.
    return ContrastSet(tuple(cannot for cannot, _ in kept), ("Yes.",) * len(kept), tuple(can for _, can in kept))


def measured(
    model: MultimodalModel,
    bare: AnswerCache,
    contrast: ContrastSet,
    benchmark: Benchmark,
    fold: int,
    most: int,
    seed: int,
) -> dict[str, Any]:
    """By layers and strength: how many of the known prompts of each set are still right, and how many decline."""
    request = complete(request_for(benchmark, fold), model, seed=seed).request
    sets = scored_sets(benchmark, fold, None, pictures=False)
    known = {name: _known(bare, thin(samples, most)) for name, samples in sets.items()}
    found: dict[str, Any] = {"known": {name: len(samples) for name, samples in known.items()}}
    for reads, shifts in LAYERS:
        settings = FitSettings.preset("knowledge").model_copy(
            update={
                "policy": TAIL, "direction": DirectionSettings(kind="text-only"), "read_layers": reads,
                "shift_layers": shifts, "seed": seed,
            }
        )  # fmt: skip
        eraser = fit(model, request, settings, contrast=contrast).eraser
        for strength in STRENGTHS:
            cells = {}
            with eraser.replace_config(strength=strength).attached(model):
                for name, samples in known.items():
                    told = model.generate(samples, max_new_tokens=TOKENS)
                    cells[name] = {"right": sum(right_answers(samples, told)), "declined": sum(map(declines, told))}
            found[f"decided at {reads.at[0]:g}, strength {strength:g}"] = cells
    return found


def _known(bare: AnswerCache, samples: list[Sample]) -> list[Sample]:
    told = bare.generate(samples, max_new_tokens=TOKENS)
    return [sample for sample, right in zip(samples, right_answers(samples, told), strict=True) if right]


def best(entries: Sequence[dict[str, Any]]) -> str:
    """Of the points that keep `KEPT` of all others, the one that leaves least; else the one that keeps most."""

    def left(point: str, names: Sequence[str]) -> float:
        known = sum(entry["known"][name] for entry in entries for name in names)
        return sum(entry[point][name]["right"] for entry in entries for name in names) / max(1, known)

    others = [name for name in entries[0]["known"] if name != "forget"]
    points = [point for point in entries[0] if point != "known"]
    keeping = [point for point in points if left(point, others) >= KEPT]
    return min(keeping, key=lambda p: left(p, ["forget"])) if keeping else max(points, key=lambda p: left(p, others))


def main(argv: list[str] | None = None) -> None:
    """Choose on some folds, measure on others, and write the results."""
    parser = study_parser("capability", __doc__, "capability-NAME.json")
    parser.add_argument("--most", type=int, default=48, help="questions of each set")
    parser.set_defaults(model="embedded:smol")
    args, model, _, report = begin(parser, argv, "most")
    benchmark, bare, contrast = load_benchmark("knowledge:countries"), AnswerCache(model), declined(model)
    print(f"{len(contrast.recall)} of {len(capabilities())} requests are declined", flush=True)
    for fold in (*CHOOSING, *MEASURING):
        key = f"fold {fold}"
        if key not in report:
            report.add(key, measured(model, bare, contrast, benchmark, fold, args.most, args.seed))
    chosen = best([report[f"fold {fold}"] for fold in CHOOSING])
    print("chosen:", chosen, flush=True)
    for fold in MEASURING:
        print(fold, report[f"fold {fold}"]["known"], report[f"fold {fold}"][chosen], flush=True)


if __name__ == "__main__":
    main()
