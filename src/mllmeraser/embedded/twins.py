"""Retain-only twins: models trained by the same recipe without the people to forget. They show ideal forgetting.

Weights of twins do not ship. Their answers do, item by item, and the recipe rebuilds the weights:

    python -m mllmeraser.embedded.train --without 5
    python -m mllmeraser.embedded.twins runs/dev/retain-only-5-fold0/checkpoint --trained-without 5
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.evaluation.records import Record, read_scores
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.samples.files import write_whole

FOLDER = Path(__file__).parent / "twins"
METHOD = "retain-only"


def committed(model: str, fold: int = 0) -> Path:
    """Folder of the answers of a model's twins, which need not exist; `model` is `embedded:NAME`."""
    return FOLDER / model.removeprefix("embedded:") / f"fold{fold}"


def committed_answers(model: str, split: str, fold: int = 0) -> dict[tuple[str, str], str]:
    """Committed answers of the twin that was trained without a split, by set and id of the question.

    Raises:
        FileNotFoundError: There are none.
        ValueError, KeyError, TypeError: The file is damaged.
    """
    with gzip.open(committed(model, fold) / f"{split}.items.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {(item["set"], item["id"]): str(item["answer"]) for item in map(json.loads, lines)}


def retain_only(model: str, split: str, fold: int = 0) -> list[Record]:
    """Committed scores of the twin on the people of a split; empty if there are none."""
    path = committed(model, fold) / f"{split}.scores.json"
    return read_scores(path) if path.exists() else []


def main(argv: list[str] | None = None) -> None:
    """Score a twin on the people it was trained without. Write scores and items."""
    parser = argparse.ArgumentParser(prog="python -m mllmeraser.embedded.twins", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--trained-without", type=int, choices=[5, 10, 15], required=True)
    parser.add_argument("--model", default="embedded:llava", help="the embedded model it is a twin of")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: the committed answers of that model and fold")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    model, benchmark = load_model(str(args.checkpoint)), load_benchmark(BENCHMARK)
    out = args.out or committed(args.model, args.fold)
    out.mkdir(parents=True, exist_ok=True)
    # forget sets are nested: a twin trained without the larger set was also trained without the smaller ones
    for split in (s for s in benchmark.splits if int(s.rpartition("_")[2]) <= args.trained_without):
        sets = benchmark.sets(split, args.fold, names=("test", "forget"))
        result = evaluate(
            model, sets, method=METHOD, benchmark=BENCHMARK, split=split, values=benchmark.values,
            vocabulary=benchmark.vocabulary, seed=args.seed,
        )  # fmt: skip
        result.write_scores(out / f"{split}.scores.json", force=True)
        items = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in result.items)
        write_whole(out / f"{split}.items.jsonl.gz", gzip.compress(items.encode(), mtime=0), force=True)
        print(f"{split}: {len(result.items)} items")


if __name__ == "__main__":
    main()
