"""The retain-only row: a model that never saw the people to forget, or what such a model answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import digest_of, folder_digest
from mllmeraser.comparison.recipe import COMMITTED, ModelEntry
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.twins import committed
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample

Sets = Mapping[str, Sequence[Sample]]


class NoTwin(Exception):
    """There is no retain-only model for a cell; the message says why."""


@dataclass(frozen=True)
class Twin:
    """Where the retain-only answers come from.

    Attributes:
        digest: Of the checkpoint's files or of the committed answers.
        folder: The checkpoint; None where answers are read.
        answers: By set and id of the question; None where a checkpoint is asked.
    """

    digest: str
    folder: Path | None = None
    answers: Mapping[tuple[str, str], str] | None = None


def find_twin(entry: ModelEntry, benchmark: str, protocol: str, split: str, fold: int) -> Twin:
    """The retain-only twin of a model.

    Raises:
        NoTwin: There is none.
    """
    if entry.retain_only is None:
        raise NoTwin("the recipe names no retain-only model: state one as models: retain_only")
    if entry.retain_only != COMMITTED:
        folder = Path(entry.retain_only.format(split=split, percent=split.rpartition("_")[2], fold=fold)).expanduser()
        try:
            return Twin(folder_digest(folder), folder=folder)
        except InputError:
            raise NoTwin(f"there is no checkpoint {folder}: train it, or leave the row out of the gate") from None
    if benchmark != BENCHMARK or protocol != "portraits" or not entry.name.startswith("embedded:"):
        raise NoTwin(f"committed answers are about {BENCHMARK} under the protocol portraits, for embedded models")
    file = committed(entry.name, fold) / f"{split}.items.jsonl"
    if not file.exists():
        raise NoTwin(f"no answers about {split}, fold {fold}, are committed: train a twin and state its folder")
    try:
        items = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        answers = {(item["set"], item["id"]): str(item["answer"]) for item in items}
    except (OSError, ValueError, KeyError, TypeError):
        raise NoTwin(f"no committed answers can be read from {file.name}") from None
    return Twin(digest_of(sorted([*key, value] for key, value in answers.items())), answers=answers)


def answered_sets(twin: Twin, sets: Sets) -> dict[str, list[Sample]]:
    """The sets that a twin's committed answers cover in full.

    Raises:
        NoTwin: They cover none.
    """
    assert twin.answers is not None
    known = twin.answers
    found = {name: list(rows) for name, rows in sets.items() if rows and all((name, s.id) in known for s in rows)}
    if not found:
        raise NoTwin("the committed answers are about none of these sets: make them anew (mllmeraser.embedded.twins)")
    return found


class Recital:
    """Stands in for a model where the answers are known: gives them back by set and id."""

    def __init__(self, name: str, answers: Mapping[tuple[str, str], str], sets: Sets) -> None:
        """`answers` by set and id; `sets` are what will be asked."""
        self.name = name
        self._said = {id(sample): answers[key, sample.id] for key, rows in sets.items() for sample in rows}

    def generate(
        self, samples: Sequence[Sample], *, progress: Callable[[int], None] | None = None, **options: Any
    ) -> list[str]:
        """The answers to samples of the sets, the very objects."""
        answers = [self._said[id(sample)] for sample in samples]
        if progress is not None:
            progress(len(answers))
        return answers
