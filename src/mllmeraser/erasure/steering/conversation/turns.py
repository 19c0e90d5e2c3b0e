"""The turns of a prompt: the current question, and what stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.models.turns import Mark, TurnFormat
from mllmeraser.models.wording import BLANK, CAPITAL, END, INSIDE, OPEN, QUESTION, UPPER


@dataclass(frozen=True)
class Turns:
    """Where the turns of each row are. A turn reaches from a user's mark to the next one, its answer included.

    Attributes:
        number: (rows, length) number of the turn at each position; 0 is what stands before the first one.
        answered: (rows, length) bool, the answers of earlier turns.
        mark: (rows, length) bool, tokens of the users' marks.
        current: (rows, length) bool, tokens of the last turn, and of an answer that is begun already.
        earlier: (rows, length) bool, tokens before it: system text, earlier turns.
        shared: (rows, length) bool, tokens that stand before every plain prompt of this checkpoint too.
        asked: (rows,) position at which the answer to the current question begins.
        last: (rows,) position of the last token, which differs if the answer is begun already.
        asked_before: (rows, length) bool, the same positions of earlier turns.
        several: (rows,) bool, whether anything stands before the current turn.
        unmarked: (rows,) bool, whether no user's mark was found.
        headless: (rows,) bool, whether an answer is asked for where there is none: a system message alone.
    """

    number: Tensor
    answered: Tensor
    mark: Tensor
    current: Tensor
    earlier: Tensor
    shared: Tensor
    asked: Tensor
    last: Tensor
    asked_before: Tensor
    several: Tensor
    unmarked: Tensor
    headless: Tensor


def find_turns(ids: Tensor, prompt: Tensor, form: TurnFormat) -> Turns:
    """The turns of prompts, without waiting for the device.

    Args:
        ids: (rows, length) token ids.
        prompt: (rows, length) bool, real prompt tokens.
        form: Marks of the checkpoint's chat format.
    """
    columns = torch.arange(ids.shape[1], device=ids.device)
    starts, user_ends = _found(ids, prompt, form.user)
    number = starts.cumsum(1)
    current = prompt & (number == number[:, -1:])
    shared = _plain_start(ids, prompt, form.preamble) & (number == 0)
    earlier = prompt & ~current & ~shared
    headers, ends = _found(ids, prompt, form.answer)
    last = torch.where(prompt, columns, -1).amax(1)
    ours = headers & current
    first = ours.long().argmax(1)
    asked = torch.where(ours.any(1), ends.gather(1, first[:, None])[:, 0], last)
    before = (_ends_of(headers, ends) > 0) & earlier
    answered = _after_header(starts, headers, ends) & earlier & (number > 0)
    mark = _spans(starts, user_ends)
    unmarked = ~starts.any(1)
    several, headless = earlier.any(1), unmarked & headers.any(1)
    return Turns(number, answered, mark, current, earlier, shared, asked, last, before, several, unmarked, headless)


def _after_header(starts: Tensor, headers: Tensor, ends: Tensor) -> Tensor:
    """(rows, length) bool: positions after the mark of an answer in their own turn."""
    closed = _ends_of(headers, ends)
    before = closed.cumsum(1) - closed
    return before > torch.where(starts, before, 0).cummax(1).values


def _ends_of(begins: Tensor, ends: Tensor) -> Tensor:
    """(rows, length) number of marks that end at each position."""
    return torch.zeros_like(ends).scatter_add(1, ends, begins.long())


def _spans(starts: Tensor, ends: Tensor) -> Tensor:
    """(rows, length) bool: positions from each start to its end."""
    steps = starts.long()
    after = (ends + 1).clamp(max=starts.shape[1] - 1)
    inner = starts & (ends + 1 < starts.shape[1])
    return (steps.cumsum(1) - torch.zeros_like(ends).scatter_add(1, after, inner.long()).cumsum(1)) > 0


def points_back(turns: Turns, ids: Tensor, images: Tensor, form: TurnFormat, kinds: Tensor | None) -> Tensor:
    """(rows,) bool: whether the current question may be about somebody who was named or shown before.

    So it may if it points back, or if it names no person and shows no picture. `images` (rows, length) bool are the
    placeholders of pictures. Without the `token_kinds` of the vocabulary, every question may.
    """
    pictured = (images & turns.current).any(1)
    if kinds is None:
        return torch.ones_like(pictured)
    words = turns.current & (torch.arange(ids.shape[1], device=ids.device) <= turns.asked[:, None])
    kind = kinds.to(ids.device)[ids.clamp(0, len(kinds) - 1)]
    is_open, blank = (_later((kind & bit).bool() & words) for bit in (OPEN, BLANK))
    capital = (kind & CAPITAL).bool() | (kind & UPPER).bool() & blank
    named = (_asking(words, kind) & (is_open | blank & _later(is_open)) & capital).any(1)
    inside = (kind & INSIDE).bool() & words
    pronoun, backward = (_words(ids, words, is_open, inside, marks) for marks in (form.pronouns, form.backward))
    return backward | (pronoun & ~pictured) | ~(named | pictured)


def _later(where: Tensor) -> Tensor:
    """(rows, length) bool, one position later."""
    later = torch.zeros_like(where)
    later[:, 1:] = where[:, :-1]
    return later


def _asking(words: Tensor, kind: Tensor) -> Tensor:
    """(rows, length) bool: the last question of a turn, or the whole turn if it holds none."""
    columns = torch.arange(words.shape[1], device=words.device)
    end = torch.where(words & (kind & QUESTION).bool(), columns, -1).amax(1, keepdim=True)
    before = words & (kind & END).bool() & (columns < end)
    start = torch.where(before, columns, -1).amax(1, keepdim=True)
    return words & ((end < 0) | ((columns > start) & (columns <= end)))


def _words(ids: Tensor, words: Tensor, is_open: Tensor, inside: Tensor, marks: Sequence[Mark]) -> Tensor:
    """(rows,) bool: whether one of these words occurs, and not as a part of another word."""
    begins, ends = _found(ids, words, marks)
    after = (ends + 1).clamp(max=ids.shape[1] - 1)
    whole = ~(inside.gather(1, after) & (after > ends))
    return (begins & whole & ~(inside & is_open)).any(1)


def _found(ids: Tensor, prompt: Tensor, marks: Sequence[Mark]) -> tuple[Tensor, Tensor]:
    """(rows, length) bool, where a mark begins; and the position of its last token, or of itself elsewhere."""
    columns = torch.arange(ids.shape[1], device=ids.device)
    begins, ends = torch.zeros_like(prompt), columns.expand_as(ids).clone()
    for mark in marks:
        room = ids.shape[1] - len(mark) + 1
        if room < 1:
            continue
        same = torch.stack([ids[:, i : i + room] == token for i, token in enumerate(mark)]).all(0)
        same = same & prompt[:, :room]
        begins[:, :room] |= same
        longer = torch.where(same, columns[:room] + len(mark) - 1, 0)
        ends[:, :room] = torch.maximum(ends[:, :room], longer)
    return begins, ends


def _plain_start(ids: Tensor, prompt: Tensor, preamble: Mark) -> Tensor:
    """(rows, length) bool: the longest start of each prompt that is the start of a plain one."""
    same = torch.zeros_like(prompt)
    if not preamble:
        return same
    place = prompt.cumsum(1) - 1
    expected = torch.tensor(preamble, device=ids.device)[place.clamp(0, len(preamble) - 1)]
    agrees = (ids == expected) & (place < len(preamble)) | ~prompt
    return prompt & agrees.long().cumprod(1).bool()
