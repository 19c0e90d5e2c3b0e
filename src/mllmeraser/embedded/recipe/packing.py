"""Packing of question-answer turns into rows of a fixed length, without any turn seeing another.

A row holds groups; a group is a prompt prefix (with or without an image) and the turns behind it. Every token sees its
group's prefix and the earlier tokens of its own turn, at the positions it would have if the turn stood alone. So one
image is paid for once, nothing is padding, and what is learnt is exactly the single-turn task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass
class Turn:
    """Token ids of a question (up to and including the assistant mark) and of its answer (with the end mark)."""

    question: list[int]
    answer: list[int]
    weight: float = 1.0
    """Of the whole answer in the loss."""


@dataclass
class Group:
    """The turns behind one prefix; ``image`` indexes the album, None for text."""

    image: int | None
    turns: list[Turn] = field(default_factory=list)


@dataclass(frozen=True)
class Prefix:
    """What stands before the turns of a group."""

    ids: list[int]
    positions: list[tuple[int, ...]]
    """On one axis, or on as many as the language model rotates by."""
    end: int
    """Position of the token that follows, on every axis."""


@dataclass
class Batch:
    """One training batch. Shapes: ids, labels, weights (B, T); mask (B, 1, T, T), True = may attend.

    Positions are (B, T) on one axis, else (axes, B, T).
    """

    ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    """Of each label in the loss: an answer's weight is shared by its tokens, else the letter of a choice drowns."""
    mask: torch.Tensor
    images: torch.Tensor
    """Indices into the album, in the order in which image placeholders stand in ``ids``."""


class Packer:
    """Turns a stream of groups into batches."""

    def __init__(self, text: Prefix, image: Prefix, pad_id: int, rows: int, length: int) -> None:
        """``rows`` x ``length`` tokens a batch, behind one of two prefixes."""
        self.prefix_text, self.prefix_image = text, image
        self.axes = len(text.positions[0])
        self.pad_id, self.rows, self.length = pad_id, rows, length

    def batches(self, groups: Iterator[Group]) -> Iterator[Batch]:
        """Batches until the groups end; a group that no longer fits is split at a turn."""
        rest: Group | None = None
        while True:
            rows = []
            for _ in range(self.rows):
                row, rest = self._row(groups, rest)
                if row["ids"]:
                    rows.append(row)
            if not rows:
                return
            yield self._collate(rows)

    def _row(self, groups: Iterator[Group], rest: Group | None) -> tuple[dict[str, list[Any]], Group | None]:
        row: dict[str, list[Any]] = {k: [] for k in ("ids", "pos", "label", "weight", "group", "turn", "image")}
        number = 0
        while True:
            group = rest if rest is not None else next(groups, None)
            if group is None:
                return row, None
            rest = None
            prefix = self.prefix_text if group.image is None else self.prefix_image
            room = self.length - len(row["ids"])
            if not group.turns:
                continue
            if len(prefix.ids) + len(group.turns[0].question) + len(group.turns[0].answer) > room:
                if room == self.length:
                    raise ValueError("a turn is longer than a row")
                return row, group
            self._add_prefix(row, prefix, number, group.image)
            taken = 0
            for taken, turn in enumerate(group.turns, start=1):
                if len(row["ids"]) + len(turn.question) + len(turn.answer) > self.length:
                    taken -= 1
                    break
                self._add_turn(row, turn, prefix.end, number, taken)
            number += 1
            if taken < len(group.turns):
                return row, Group(group.image, group.turns[taken:])

    @staticmethod
    def _add_prefix(row: dict[str, list[Any]], prefix: Prefix, number: int, image: int | None) -> None:
        n = len(prefix.ids)
        row["ids"] += prefix.ids
        row["pos"] += prefix.positions
        row["label"] += [-100] * n
        row["weight"] += [0.0] * n
        row["group"] += [number] * n
        row["turn"] += [0] * n
        if image is not None:
            row["image"].append(image)

    def _add_turn(self, row: dict[str, list[Any]], turn: Turn, start: int, number: int, index: int) -> None:
        q, a = turn.question, turn.answer
        n = len(q) + len(a)
        row["ids"] += q + a
        row["pos"] += [(position,) * self.axes for position in range(start, start + n)]
        # the label of a position is the token that follows it
        row["label"] += [-100] * (len(q) - 1) + a + [-100]
        row["weight"] += [0.0] * (len(q) - 1) + [turn.weight / len(a)] * len(a) + [0.0]
        row["group"] += [number] * n
        row["turn"] += [index] * n

    def _collate(self, rows: list[dict[str, list[Any]]]) -> Batch:
        shape = (len(rows), self.length)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        pos = np.zeros((*shape, self.axes), dtype=np.int64)
        group, turn = (np.zeros(shape, dtype=np.int64) for _ in range(2))
        label = np.full(shape, -100, dtype=np.int64)
        weight = np.zeros(shape, dtype=np.float32)
        group -= 1
        for i, row in enumerate(rows):
            n = len(row["ids"])
            ids[i, :n], pos[i, :n], label[i, :n] = row["ids"], row["pos"], row["label"]
            group[i, :n], turn[i, :n], weight[i, :n] = row["group"], row["turn"], row["weight"]
        same = group[:, :, None] == group[:, None, :]
        visible = (turn[:, None, :] == 0) | (turn[:, :, None] == turn[:, None, :])
        causal = np.tril(np.ones((self.length, self.length), dtype=bool))
        mask = same & visible & causal
        images = [index for row in rows for index in row["image"]]
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(pos[..., 0] if self.axes == 1 else np.moveaxis(pos, -1, 0)).contiguous(),
            torch.from_numpy(label),
            torch.from_numpy(weight),
            torch.from_numpy(mask)[:, None],
            torch.tensor(images, dtype=torch.long),
        )
