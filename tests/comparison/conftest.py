"""Small recipes on tiny models, and a made-up comparison for the exhibits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mllmeraser.comparison import activations
from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.memorisation_check import verdicts
from mllmeraser.comparison.results import Run
from mllmeraser.evaluation.outcomes import OUTCOMES
from mllmeraser.evaluation.protocols import PROTOCOLS
from mllmeraser.evaluation.records import Item, Record

Write = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def short_answers() -> Iterator[None]:
    """A random model never ends an answer by itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name, protocol in PROTOCOLS.items():
            patch.setitem(PROTOCOLS, name, replace(protocol, max_new_tokens=3))
        yield


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_llava_path: Path) -> Write:
    """Writes a recipe of one question of each kind about one person, changed as wanted."""

    def write(**changes: Any) -> Path:
        content: dict[str, Any] = {
            "name": "tiny",
            "models": [str(tiny_llava_path)],
            "benchmark": "portraits:unit",
            "sets": {"forget": 1},
            "activations": 1,
            "methods": [{"method": "mllmeraser", "settings": {"false_alarm_rate": 0.2}}],
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def space_file(tmp_path: Path, tiny_llava_path: Path) -> Write:
    """Writes a space of two methods with two candidates each, changed as wanted."""

    def write(**changes: Any) -> Path:
        content: dict[str, Any] = {
            "name": "tiny",
            "model": str(tiny_llava_path),
            "benchmark": "portraits:unit",
            "limit": 1,
            "budget": 2,
            "methods": [
                {"method": "ga", "settings": {"learning_rate": 0.01}, "grid": {"steps": [1, 2]}},
                {"method": "grad-diff", "variant": "joint", "candidates": [{"steps": 1}, {"steps": 1, "gamma": 2}]},
            ],
        }
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
        return path

    return write


SHARES = {
    # recalled: forget, everything else
    "vanilla": (0.95, 0.95),
    "retain-only": (0.1, 0.95),
    "system-prompt": (0.6, 0.9),
    "block-list": (0.3, 0.8),
    "mllmeraser, default": (0.0, 0.95),
    "grad-diff, joint": (0.2, 0.4),
    "hook-off": (0.95, 0.95),
}


def item(name: str, person: int, task: str, modality: str, number: int, recalled: bool, outcome: str) -> Item:
    return Item(
        id=f"{name}/{person}/{task}/{modality}/{number}", set=name, task=task, modality=modality,  # type: ignore[typeddict-item]
        subject=f"p{person}", answer="x", outcome="recalled" if recalled else outcome, correct=recalled, reason="",  # type: ignore[typeddict-item]
        rouge_l=None if task == "classification" else 0.5 + 0.5 * recalled, scores={}, option_letter=None,
        option_correct=None,
    )  # fmt: skip


def records_of(items: list[Item], method: str, split: str, seed: int) -> list[Record]:
    cells: dict[tuple[Any, ...], list[Item]] = {}
    for one in items:
        cells.setdefault((one["set"], one["modality"], one["task"]), []).append(one)
    return [
        Record(
            method=method, preset=None, model="m", benchmark="b", split=split, set=name, modality=modality, task=task,
            n=len(group), people=4, accuracy=sum(i["correct"] for i in group) / len(group), ci_low=0, ci_high=1,
            rouge_l=None, outcomes={o: sum(i["outcome"] == o for i in group) for o in OUTCOMES}, seed=seed, policy=None,
            seconds=0.1,
        )
        for (name, modality, task), group in cells.items()
    ]  # fmt: skip


def made_up_cell(label: str, split: str, fold: int, seed: int, **changes: Any) -> Cell:
    """A cell of forget, test, retain and celebrity with shares as in `SHARES`."""
    rng = random.Random(f"{label}/{split}/{fold}/{seed}")
    forget, rest = SHARES[label]
    items = []
    for name in ("forget", "test", "retain", "celebrity"):
        share = forget if name in ("forget", "test") else rest
        for person in range(4):
            for task in ("classification", "generation", "cloze"):
                for modality in ("image", "text"):
                    for number in range(3):
                        outcome = "gibberish" if label.startswith("grad") else "unknown"
                        recalled = rng.random() < share
                        items.append(item(name, person + 10 * fold, task, modality, number, recalled, outcome))
    method = label.partition(",")[0]
    content: dict[str, Any] = {
        "digest": f"{label}-{split}-{fold}-{seed}", "status": "done", "model": "m", "fingerprint": "f",
        "benchmark": "b", "protocol": "portraits", "split": split, "fold": fold, "seed": seed, "label": label,
        "method": method, "making_seconds": None if label in ("vanilla", "retain-only", "hook-off") else 2.0 + seed,
        "answering_seconds": 1.0, "product_bytes": 1000, "records": records_of(items, method, split, seed),
        "items": [dict(one) for one in items],
    }  # fmt: skip
    return Cell(**{**content, **changes})


def made_up_activations() -> activations.Activations:
    import numpy as np

    rng = np.random.default_rng(0)
    forget, retain = rng.normal(size=(12, 6)), rng.normal(size=(15, 6)) + 2
    return activations.summarise(4, {"forget": ("test", forget, forget + 5), "retain": ("retain", retain, retain)})


@pytest.fixture
def comparison() -> Run:
    """Two splits, two folds on the first, two seeds of what is random; the twin is there on fold 0 alone."""
    cells = []
    for split, fold in (("forget_5", 0), ("forget_5", 1), ("forget_10", 0)):
        for label in SHARES:
            for seed in (0, 1) if label in ("mllmeraser, default", "grad-diff, joint") else (0,):
                changes: dict[str, Any] = {}
                if label == "retain-only" and fold:
                    changes = {"status": "missing", "reason": "no twin", "records": [], "items": []}
                if label == "grad-diff, joint" and split == "forget_10":
                    changes = {"status": "failed", "reason": "diverged", "records": [], "items": []}
                if label == "mllmeraser, default":
                    changes = {"activations": made_up_activations()}
                cells.append(made_up_cell(label, split, fold, seed, **changes))
    return Run({"name": "made up"}, tuple(cells), tuple(verdicts(cells)), {})
