"""Retain-only twins: the model trained by the same recipe without the people to forget, which shows what forgetting is.

Weights of twins do not ship; what they answered does, item by item, beside the recipe that rebuilds them:

    python -m mllmeraser.embedded.train --without 5
    python -m mllmeraser.embedded.twins runs/dev/retain-only-5-fold0/checkpoint --trained-without 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.evaluation.records import Record, read_scores
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.loading import load_model

FOLDER = Path(__file__).parent / "twins"
METHOD = "retain-only"


def committed(model: str, fold: int = 0) -> Path:
    """Where the answers of a model's twins lie; ``model`` is ``embedded:NAME``, and the folder need not exist."""
    return FOLDER / model.removeprefix("embedded:") / f"fold{fold}"


def retain_only(model: str, split: str, fold: int = 0) -> list[Record]:
    """Committed scores of the retain-only twin on the people of a split; empty if there is none."""
    path = committed(model, fold) / f"{split}.scores.json"
    return read_scores(path) if path.exists() else []


def main(argv: list[str] | None = None) -> None:
    """Score a twin on the people it was trained without, and write scores and items."""
    parser = argparse.ArgumentParser(prog="python -m mllmeraser.embedded.twins", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--trained-without", type=int, choices=[5, 10, 15], required=True)
    parser.add_argument("--model", default="embedded:llava", help="whose twin it is")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: beside the committed answers of that model and fold")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    model, benchmark = load_model(str(args.checkpoint)), load_benchmark(BENCHMARK)
    out = args.out or committed(args.model, args.fold)
    out.mkdir(parents=True, exist_ok=True)
    # forget sets are nested: a twin without the larger set has seen nobody of the smaller ones either
    for split in (s for s in benchmark.splits if int(s.rpartition("_")[2]) <= args.trained_without):
        names = ("test", "forget")
        result = evaluate(
            model, benchmark.sets(split, args.fold, names=names), method=METHOD,
            benchmark=BENCHMARK, split=split, values=benchmark.values, vocabulary=benchmark.vocabulary, seed=args.seed,
        )  # fmt: skip
        result.write_scores(out / f"{split}.scores.json", force=True)
        result.write_items(out / f"{split}.items.jsonl", force=True)
        print(f"{split}: {len(result.items)} items")


if __name__ == "__main__":
    main()
