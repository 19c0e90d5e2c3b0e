"""Packing of question-answer turns into rows of a fixed length, without any turn seeing another.

A row holds groups. A group is a prompt prefix, with or without an image, and the turns behind it. Each token sees its
group's prefix and the earlier tokens of its own turn, at the positions of a turn that stands alone. So an image is
encoded once for many turns, and there is little padding. A prefix may begin with the earlier turns of a conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

Token = tuple[int, tuple[int, ...], int, float, int, int]
"""Id, position on each axis, label, weight of the label, number of the group, number of the turn (0: prefix)."""
Row = tuple[list[Token], list[int]]
"""Tokens and images."""
IGNORED = -100


@dataclass
class Turn:
    """Token ids of a question (with the assistant mark) and its answer (with the end mark), and the answer's weight."""

    question: list[int]
    answer: list[int]
    weight: float = 1.0


@dataclass(frozen=True)
class Earlier:
    """Token ids of what was said before. With an image, the ids stand behind it and its user mark."""

    ids: list[int]
    image: int | None = None


@dataclass
class Group:
    """The turns behind one prefix; `image` indexes the album, None for text.

    A conversation `before` comes first. The ids of `lead` stand between the prefix and each question.
    """

    image: int | None
    turns: list[Turn] = field(default_factory=list)
    before: list[Earlier] = field(default_factory=list)
    lead: list[int] = field(default_factory=list)

    @property
    def images(self) -> list[int]:
        """All images, in order."""
        return [one for one in (*(said.image for said in self.before), self.image) if one is not None]


@dataclass(frozen=True)
class Prefix:
    """The tokens before the turns of a group, and their positions on each axis that the language model rotates by.

    `end` is the position of the next token, on every axis.
    """

    ids: list[int]
    positions: list[tuple[int, ...]]
    end: int

    def then(self, other: Prefix) -> Prefix:
        """Both, one behind the other."""
        moved = [tuple(self.end + axis for axis in place) for place in other.positions]
        return Prefix(self.ids + other.ids, self.positions + moved, self.end + other.end)


@dataclass
class Batch:
    """One training batch. Shapes: ids, labels, weights (B, T); mask (B, 1, T, T), True = may attend.

    Positions are (B, T) on one axis, else (axes, B, T). `images` are indices into the album, in the order of the image
    placeholders. The tokens of an answer share its weight; otherwise long answers outweigh letters.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor
    images: torch.Tensor

    def rows(self, image_token: int) -> Iterator[Batch]:
        """Each row as a batch of its own."""
        shown = (self.ids == image_token).sum(1)
        each = int(shown.sum()) // max(1, len(self.images))
        images = self.images.split((shown // max(1, each)).tolist())
        rows = (part.split(1, dim=-2) for part in (self.ids, self.positions, self.labels, self.weights))
        for ids, positions, labels, weights, mask, own in zip(*rows, self.mask.split(1), images, strict=True):
            yield Batch(ids, positions, labels, weights, mask, own)


class Packer:
    """Turns a stream of groups into batches of `rows` x `length` tokens, behind one of two prefixes."""

    def __init__(self, text: Prefix, image: Prefix, pad_id: int, rows: int, length: int) -> None:
        self.prefix_text, self.prefix_image = text, image
        self.axes = len(text.positions[0])
        self.pad_id, self.rows, self.length = pad_id, rows, length

    def batches(self, groups: Iterator[Group]) -> Iterator[Batch]:
        """Batches until the groups end. A group that no longer fits is split between turns."""
        rest: Group | None = None
        while True:
            rows = []
            for _ in range(self.rows):
                row, rest = self._row(groups, rest)
                if row[0]:
                    rows.append(row)
            if not rows:
                return
            yield self._collate(rows)

    def _row(self, groups: Iterator[Group], group: Group | None) -> tuple[Row, Group | None]:
        """A row that begins with `group`, and the group that no longer fits."""
        tokens: list[Token] = []
        images: list[int] = []
        number = 0
        while (group := group or next(groups, None)) is not None:
            turns, prefix = group.turns, self._prefix(group)
            if turns and len(tokens) + len(prefix.ids) + len(turns[0].question + turns[0].answer) > self.length:
                if not tokens:
                    raise ValueError("a turn is longer than a row")
                return (tokens, images), group
            if turns:
                places = zip(prefix.ids, prefix.positions, strict=True)
                tokens += [(token, place, IGNORED, 0.0, number, 0) for token, place in places]
                images += group.images
                for index, turn in enumerate(turns):
                    if len(tokens) + len(turn.question + turn.answer) > self.length:
                        return (tokens, images), replace(group, turns=turns[index:])
                    tokens += self._turn(turn, prefix.end, number, index + 1)
                number += 1
            group = None
        return (tokens, images), None

    def _prefix(self, group: Group) -> Prefix:
        whole = Prefix([], [], 0)
        for said in group.before:
            whole = (whole if said.image is None else whole.then(self.prefix_image)).then(self._text(said.ids))
        whole = whole.then(self.prefix_text if group.image is None else self.prefix_image)
        return whole.then(self._text(group.lead))

    def _text(self, ids: list[int]) -> Prefix:
        return Prefix(ids, [(place,) * self.axes for place in range(len(ids))], len(ids))

    def _turn(self, turn: Turn, start: int, number: int, index: int) -> list[Token]:
        question, answer = turn.question, turn.answer
        ids, before = question + answer, len(question) - 1
        labels = [IGNORED] * before + answer + [IGNORED]  # the label of a position is the next token
        weights = [0.0] * before + [turn.weight / len(answer)] * len(answer) + [0.0]
        places = [(position,) * self.axes for position in range(start, start + len(ids))]
        tokens = zip(ids, places, labels, weights, strict=True)
        return [(token, place, label, weight, number, index) for token, place, label, weight in tokens]

    def _collate(self, rows: list[Row]) -> Batch:
        shape = (len(rows), self.length)
        ids, labels, group = (np.full(shape, value, dtype=np.int64) for value in (self.pad_id, IGNORED, -1))
        turn, places = np.zeros(shape, dtype=np.int64), np.zeros((*shape, self.axes), dtype=np.int64)
        weights = np.zeros(shape, dtype=np.float32)
        arrays: tuple[np.ndarray, ...] = (ids, places, labels, weights, group, turn)
        for i, (tokens, _) in enumerate(rows):
            for array, values in zip(arrays, zip(*tokens, strict=True), strict=True):
                array[i, : len(tokens)] = values
        same_group = group[:, :, None] == group[:, None, :]
        visible = (turn[:, None, :] == 0) | (turn[:, :, None] == turn[:, None, :])
        mask = same_group & visible & np.tril(np.ones((self.length, self.length), dtype=bool))
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(places[..., 0] if self.axes == 1 else np.moveaxis(places, -1, 0)).contiguous(),
            torch.from_numpy(labels),
            torch.from_numpy(weights),
            torch.from_numpy(mask)[:, None],
            torch.tensor([image for _, images in rows for image in images], dtype=torch.long),
        )
