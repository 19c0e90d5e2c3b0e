"""The retain-only row: a model that was trained without the people to forget, or the stored answers of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllmeraser.comparison.cells import digest_of
from mllmeraser.comparison.recipe import COMMITTED, ModelEntry
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.twins import committed_answers
from mllmeraser.samples import Sample
from mllmeraser.samples.progress import Count

Sets = Mapping[str, Sequence[Sample]]
Answers = Mapping[tuple[str, str], str]
"""Answers by set and id of the question."""


@dataclass(frozen=True)
class Twin:
    """The source of the retain-only answers: a checkpoint folder or stored answers. `digest` is that of either."""

    digest: str
    folder: Path | None = None
    answers: Answers | None = None


def find_twin(entry: ModelEntry, benchmark: str, protocol: str, split: str, fold: int) -> Twin | str:
    """The retain-only twin of a model, or why there is none."""
    if entry.retain_only is None:
        return "the recipe names no retain-only model: state one as models: retain_only"
    if entry.retain_only != COMMITTED:
        folder = Path(entry.retain_only.format(split=split, percent=split.rpartition("_")[2], fold=fold)).expanduser()
        if not folder.is_dir():
            return f"there is no checkpoint {folder}: train it, or leave retain_only out"
        # names, sizes and times show that a checkpoint is another one
        files = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
        return Twin(digest_of([[name, about.st_size, about.st_mtime_ns] for name, about in files]), folder=folder)
    if benchmark != BENCHMARK or protocol != "portraits" or not entry.name.startswith("embedded:"):
        return f"committed answers are about {BENCHMARK} under the protocol portraits, for embedded models"
    try:
        answers = committed_answers(entry.name, split, fold)
    except FileNotFoundError:
        return f"no answers about {split}, fold {fold}, are committed: train a twin and state its folder"
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return f"the committed answers about {split}, fold {fold}, cannot be read: install the package again"
    return Twin(digest_of(sorted([*key, value] for key, value in answers.items())), answers=answers)


def answered_sets(answers: Answers, sets: Sets) -> dict[str, list[Sample]]:
    """The sets that stored answers cover completely."""
    return {name: list(rows) for name, rows in sets.items() if rows and all((name, s.id) in answers for s in rows)}


class StoredAnswers:
    """Answers the samples of some sets from a table, in place of a model. It knows only these very objects."""

    def __init__(self, name: str, answers: Answers, sets: Sets) -> None:
        self.name = name
        self._answers = {id(sample): answers[key, sample.id] for key, rows in sets.items() for sample in rows}

    def generate(self, samples: Sequence[Sample], *, progress: Count | None = None, **options: Any) -> list[str]:
        """The stored answers, in the order of the samples."""
        answers = [self._answers[id(sample)] for sample in samples]
        if progress is not None:
            progress(len(answers))
        return answers
