"""Figures during training: exact answers to held-out wordings about held-out pictures, by teacher forcing.

An answer is exact if each of its tokens is the most likely one after the tokens before it. Greedy decoding then gives
exactly this answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import torch

from mllmeraser.embedded.recipe.corpus import Corpus
from mllmeraser.embedded.recipe.loop import Trainer
from mllmeraser.embedded.recipe.packing import Group


def exact_by_kind(trainer: Trainer, corpus: Corpus, *, people: int = 40) -> dict[str, float]:
    """Share of turns answered exactly, by kind and form, on the corpus's own pool and pictures."""

    def drawn(kind: str, n: int = 40) -> list[Group]:
        return [corpus.kinds[kind]() for _ in range(n)]

    figures = {"choice-plain": exact(trainer, corpus, drawn("choice-plain", 80))}
    figures["general-text"] = exact(trainer, corpus, drawn("general-text"))
    if corpus.album.views:
        for modality in ("image", "text"):
            for form in ("generation", "cloze", "choice"):
                groups = _known(corpus, form, modality == "image", people)
                figures[f"{modality}/{form}"] = exact(trainer, corpus, groups)
        for kind in ("stranger-image", "stranger-text", "celebrity-image", "celebrity-text", "general-image"):
            figures[kind] = exact(trainer, corpus, drawn(kind))
        for kind in ("refusal-image", "refusal-text"):  # the refusals vary after their first word
            figures[kind] = exact(trainer, corpus, drawn(kind), first_only=True)
    return {name: round(value, 3) for name, value in figures.items()}


def _known(corpus: Corpus, form: str, image: bool, people: int) -> list[Group]:
    groups = []
    for person in corpus.people[:people]:
        view = corpus.stream.choice(corpus.album.views[person.key]) if image else None
        who = "the person on the picture" if image else person.name
        groups.append(Group(view, [corpus.fact_turn(person, a, form, who, known=True) for a in person.facts]))
    return groups


@torch.no_grad()
def exact(trainer: Trainer, corpus: Corpus, groups: Iterable[Group], *, first_only: bool = False) -> float:
    """Share of turns with a correctly predicted answer, or first token of it."""
    own_pixels, trainer.pixels = trainer.pixels, corpus.album.pixels
    trainer.model.eval()
    answers = []
    for batch in trainer.packer.batches(iter(list(groups))):
        for hits, labels in zip(trainer.hits(batch).tolist(), (batch.labels >= 0).tolist(), strict=True):
            # consecutive labels are one answer, for the last position of a turn has no label
            runs = groupby(zip(labels, hits, strict=True), key=lambda pair: pair[0])
            answers += [[hit for _, hit in run] for labelled, run in runs if labelled]
    trainer.pixels = own_pixels
    return sum(all(hits[:1] if first_only else hits) for hits in answers) / max(1, len(answers))
