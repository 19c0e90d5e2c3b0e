"""Figures during training: exact answers to held-out wordings over held-out pictures, by teacher forcing.

An answer whose every token is the most likely one given the tokens before it is exactly what greedy decoding gives.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from mllmeraser.embedded.recipe.corpus import Corpus
from mllmeraser.embedded.recipe.loop import Trainer
from mllmeraser.embedded.recipe.packing import Group

FORMS = ("generation", "cloze", "choice")


def exact_by_kind(trainer: Trainer, corpus: Corpus, *, people: int = 40) -> dict[str, float]:
    """Share of turns answered exactly, by kind and form, on the corpus's own pool and pictures."""
    figures = {"choice-plain": exact(trainer, corpus, _drawn(corpus, "choice-plain", 80))}
    figures["general-text"] = exact(trainer, corpus, _drawn(corpus, "general-text", 40))
    if corpus.album.views:
        figures |= _with_pictures(trainer, corpus, people)
    return {name: round(value, 3) for name, value in figures.items()}


def _with_pictures(trainer: Trainer, corpus: Corpus, people: int) -> dict[str, float]:
    figures = {}
    for image in (True, False):
        modality = "image" if image else "text"
        for form in FORMS:
            figures[f"{modality}/{form}"] = exact(trainer, corpus, _known(corpus, form, image, people))
    for kind in ("stranger-image", "stranger-text", "celebrity-image", "celebrity-text", "general-image"):
        figures[kind] = exact(trainer, corpus, _drawn(corpus, kind, 40))
    for kind in ("refusal-image", "refusal-text"):  # the refusals vary after their first word
        figures[kind] = exact(trainer, corpus, _drawn(corpus, kind, 40), first_only=True)
    return figures


def _drawn(corpus: Corpus, kind: str, n: int) -> list[Group]:
    """``n`` groups of one kind; one of a scene that settles no question has no turns."""
    return [corpus.kinds[kind]() for _ in range(n)]


def _known(corpus: Corpus, form: str, image: bool, people: int) -> list[Group]:
    groups = []
    for person in corpus.people[:people]:
        view = corpus.stream.choice(corpus.album.views[person.key]) if image else None
        who = "the person on the picture" if image else person.name
        turns = [corpus.fact_turn(person, a, form, who, known=True) for a in person.facts]
        groups.append(Group(view, turns))
    return groups


@torch.no_grad()
def exact(trainer: Trainer, corpus: Corpus, groups: Iterable[Group], *, first_only: bool = False) -> float:
    """Share of turns whose whole answer (or its first token) is predicted."""
    held, trainer.pixels = trainer.pixels, corpus.album.pixels
    trainer.model.eval()
    right = total = 0
    for batch in trainer.packer.batches(iter(list(groups))):
        hit = trainer.hits(batch)
        for row, labels in enumerate(batch.labels >= 0):
            for start, end in _runs(labels.tolist()):
                right += bool(hit[row, start : start + 1 if first_only else end].all())
                total += 1
    trainer.pixels = held
    return right / max(1, total)


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """Half-open intervals of consecutive True: each is one answer, for a turn's last position is never labelled."""
    runs, start = [], None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            runs.append((start, i))
            start = None
    return runs
