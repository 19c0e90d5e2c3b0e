"""Follow the forward passes of a model: the columns of each pass, and where prompts end.

A pass carries columns [start, start + length) of a sequence; `start` is the length of the cache. The prompt ends at a
column that `generate` knows or the caller declared; else where a pass with an empty cache ends. All other passes are
refused: a prompt that is not steered would disclose what was to be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from mllmeraser.models.intervention import PromptDeclaration, declared_prompt
from mllmeraser.samples.errors import AttachError

#: Arguments of forward that mean several sequences packed into one row.
PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens", "seq_idx", "block_tables")
#: Attribute of a cache that holds its `_Steered`.
STEERED = "_mllmeraser_steered"
SAY = "say where the prompt ends: `with attachment.prompt(length): ...`"
WHOSE = "cannot tell which prompt this cache holds: start again with an empty cache"


@dataclass(frozen=True)
class Span:
    """The columns that a forward pass carries, from `start` (the length of the cache) to `stop`.

    Attributes:
        rows: Rows of the batch, beams included.
        ends: For each row, one past the column of its last prompt token.
        origin: First column of these sequences that this attachment steered.
        fresh: Whether a new prompt begins with this pass.
        repeats: Rows per row of the request: beams, or returned sequences.
    """

    rows: int
    start: int
    stop: int
    ends: tuple[int, ...]
    origin: int
    fresh: bool
    repeats: int = 1

    @property
    def length(self) -> int:
        """Number of columns in this pass."""
        return self.stop - self.start

    @property
    def has_prompt(self) -> bool:
        """Whether some prompt column is in this pass."""
        return self.start < max(self.ends)

    @property
    def has_decoded(self) -> bool:
        """Whether some column after a prompt is in this pass."""
        return self.stop > min(self.ends)


@dataclass
class GenerateSession:
    """One call of `generate` with its `arguments`, from the first forward pass to the last.

    Attributes:
        rows: Rows of the request, before beams multiply them; None if unknown.
        mask: Attention mask of the whole prompt (rows, columns) from the user, or None.
        prompt_end: Columns of the prompt; None before the first pass.
        pieces: Whether `generate` feeds the prompt in pieces.
        stop: Columns that have passed; None before the first pass.
    """

    rows: int | None
    mask: Tensor | None
    prompt_end: int | None
    pieces: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)
    origin: int = 0
    stop: int | None = None

    def advance(self, rows: int, start: int, stop: int, cached: bool) -> Span:
        """Account for one more pass; it must be the next one of greedy search, sampling or beam search."""
        fresh = self.stop is None
        if self.stop is None:
            self.origin = start
            self.prompt_end = stop if self.prompt_end is None else self.prompt_end
        assert self.prompt_end is not None
        again = not cached and start == 0 and self.stop is not None and stop == self.stop + 1
        follows = self.stop is None or start == self.stop
        piece = stop <= self.prompt_end and (fresh or self.pieces)
        step = start >= self.prompt_end and stop == start + 1
        if not (again or (follows and (piece or step))):
            raise AttachError(
                f"cannot tell where the prompt ends: columns {start} to {stop} of generate follow "
                f"{self.stop or 0} (greedy search, sampling and beam search are supported)"
            )
        self.stop = stop
        if self.rows and rows % self.rows:
            raise AttachError(f"generate runs {rows} rows for {self.rows} requests")
        repeats = rows // self.rows if self.rows else 1
        ends = (self.prompt_end,) * rows
        return Span(rows, start, stop, ends, 0 if again else self.origin, fresh, repeats)


@dataclass(frozen=True)
class _Steered:
    """What a cache tells, as its attribute, of columns that went through the attachment of `tracker`, from `origin`."""

    tracker: object
    stop: int
    ends: tuple[int, ...]
    origin: int
    masked: Tensor | None
    reply: Tensor | None


@dataclass
class PromptTracker:
    """Follows the forward passes of one model and finds the prompt in each.

    Attributes:
        whole_prompt: Refuse prompts in pieces, and prompts that continue from a cache.
    """

    whole_prompt: bool
    session: GenerateSession | None = None
    _token: object = field(default_factory=object)

    def locate(self, inputs: Mapping[str, Any]) -> Span:
        """The span of a forward pass of the top model with the arguments `inputs`.

        It is refused if the prompt columns are unknown, or if a prefix that this attachment did not steer would make
        the result depend on how the prompt was fed.
        """
        for name in PACKING:
            if inputs.get(name) is not None:
                raise AttachError(f"packed sequences ({name}) cannot be steered: give one sequence per row")
        tokens = tokens_of(inputs)
        cache = inputs.get("past_key_values")
        rows, start = tokens.shape[0], cached_length(cache)
        if start == 0:
            _refuse_packed_positions(inputs)
        stop = start + tokens.shape[1]
        declared = declared_prompt()
        if self.session is not None:
            if declared is not None:
                raise AttachError("generate knows its own prompt: call it outside the declaring block")
            span = self.session.advance(rows, start, stop, cache is not None)
        elif declared is not None:
            mask = inputs.get("attention_mask")
            if isinstance(mask, Tensor) and mask.dim() != 2:  # it could split a row into several sequences
                raise AttachError("cannot read a prepared mask: pass the two-dimensional attention_mask")
            span = self._declared(declared, cache, rows, start, stop)
        else:
            span = self._plain(inputs, cache, rows, start, stop)
        if self.whole_prompt and span.has_prompt and (span.origin > 0 or span.stop < max(span.ends)):
            raise AttachError(
                "this policy has to see the whole prompt before it decides or shifts: the prompt has to come "
                "whole, neither in pieces nor after a cached prefix (policy 'tail' allows both)"
            )
        return span

    def _declared(self, declared: PromptDeclaration, cache: Any, rows: int, start: int, stop: int) -> Span:
        ends = declared.ends_of(rows)
        known = self._known(cache, start)
        same = known is not None and known.ends == ends
        origin = known.origin if known is not None and same else start
        if start > 0 and not same and min(ends) <= start:
            raise AttachError(
                f"a prompt of {min(ends)} columns ends within the {start} columns of a cache that this "
                "attachment has not steered: start again with an empty cache"
            )
        return Span(rows, start, stop, ends, origin, fresh=not same)

    def _plain(self, inputs: Mapping[str, Any], cache: Any, rows: int, start: int, stop: int) -> Span:
        if start == 0:
            return Span(rows, start, stop, (stop,) * rows, origin=0, fresh=True)
        known = self._known(cache, start)
        if known is None or len(known.ends) != rows:
            raise AttachError(f"this pass continues from {start} cached columns that were not steered; {SAY}")
        if max(known.ends) == 1:
            raise AttachError(f"a prompt of one token, or one that is fed token by token? Give it whole, or {SAY}")
        if stop - start > 1:
            raise AttachError(f"{stop - start} tokens after a steered prompt, a new turn or an answer to score? {SAY}")
        return Span(rows, start, stop, known.ends, known.origin, fresh=False)

    def _known(self, cache: Any, start: int) -> _Steered | None:
        known: _Steered | None = getattr(cache, STEERED, None) if start > 0 else None
        # A cache that was copied, cropped, reset or filled elsewhere since is a foreign one.
        return known if known is not None and known.tracker is self._token and known.stop == start else None

    def masked(self, span: Span, cache: Any) -> Tensor:
        """(rows, columns) prompt tokens that the answer in this pass must not attend to."""
        known = self._known(cache, span.start)
        if known is None or known.masked is None or known.masked.shape[0] != span.rows:
            raise AttachError(WHOSE)
        return known.masked

    def reply(self, span: Span, cache: Any) -> Tensor | None:
        """(rows,) sentence that each row gives in this pass; None if its prompt begins here."""
        known = None if span.fresh else self._known(cache, span.start)
        if known is not None and known.reply is not None and known.reply.shape[0] == span.rows:
            return known.reply
        if not span.has_prompt:  # else it begins here, or is repeated from its first column
            raise AttachError(WHOSE)
        return None

    def remember(self, span: Span, cache: Any, masked: Tensor | None = None, reply: Tensor | None = None) -> None:
        """Note that the columns of `span` in `cache` passed this attachment, which are masked, and who replies."""
        if cache is not None and hasattr(cache, "get_seq_length"):
            if not hasattr(cache, STEERED):
                _follow_rows(cache)
            setattr(cache, STEERED, _Steered(self._token, span.stop, span.ends, span.origin, masked, reply))

    def forget(self) -> None:
        """Forget all caches and the running call."""
        self.session = None
        self._token = object()

    def given_mask(self, span: Span) -> Tensor | None:
        """Mask of the whole prompt (requests, columns), if `generate` or a declaration has one."""
        declared = declared_prompt()
        mask = self.session.mask if self.session is not None else declared.mask if declared else None
        return mask if mask is not None and mask.shape[1] >= max(span.ends) else None


def _moved_along(name: str) -> Callable[..., None]:
    """A method of a cache that moves its rows, and what is known of their prompts with them."""

    def move(cache: Any, by: Any) -> None:
        getattr(type(cache), name)(cache, by)
        known: _Steered = getattr(cache, STEERED)
        rows = torch.arange(len(known.ends))
        rows = rows.repeat_interleave(by) if name == "batch_repeat_interleave" else rows[torch.as_tensor(by).cpu()]
        masked, reply = (None if t is None else t[rows.to(t.device)] for t in (known.masked, known.reply))
        ends = tuple(known.ends[row] for row in rows.tolist())
        setattr(cache, STEERED, replace(known, ends=ends, masked=masked, reply=reply))

    return move


MOVES = {name: _moved_along(name) for name in ("reorder_cache", "batch_select_indices", "batch_repeat_interleave")}


def _follow_rows(cache: Any) -> None:
    """Let the cache take along what is known of its rows when they are reordered, selected or repeated."""
    for name, move in () if torch.compiler.is_compiling() else MOVES.items():
        if callable(getattr(type(cache), name, None)):
            setattr(cache, name, MethodType(move, cache))


def cache_of(output: Any, inputs: Mapping[str, Any]) -> Any:
    """The cache that a pass with the arguments `inputs` has filled, or None."""
    cache = getattr(output, "past_key_values", None)
    if cache is None and isinstance(output, tuple):
        cache = next((part for part in output if hasattr(part, "get_seq_length")), None)
    return inputs.get("past_key_values") if cache is None else cache


def cached_length(cache: Any) -> int:
    """Columns that a cache holds."""
    if cache is None:
        return 0
    if not callable(getattr(cache, "get_seq_length", None)):
        kind = type(cache).__name__
        raise AttachError(f"a cache of type {kind} cannot tell its length: use a transformers Cache")
    return int(cache.get_seq_length())


def tokens_of(inputs: Mapping[str, Any]) -> Tensor:
    """The ids (rows, length) or embeddings (rows, length, d) of a forward pass."""
    if inputs.get("input_ids") is not None and inputs.get("inputs_embeds") is not None:
        raise AttachError("give input_ids or inputs_embeds, not both: the model reads the one and erasers the other")
    for name in ("input_ids", "inputs_embeds"):
        value = inputs.get(name)
        if isinstance(value, Tensor) and value.dim() >= 2 and value.shape[1] > 0:
            return value
    raise AttachError("a forward pass without input_ids or inputs_embeds cannot be steered")


def _refuse_packed_positions(inputs: Mapping[str, Any]) -> None:
    """Refuse position_ids that do not rise one by one: without a mask, transformers reads them as packed sequences.

    Positions are (rows, length). With four axes, (4, rows, length), a Qwen-VL packs by the first. With three (time,
    height, width) a picture does not move in time, and only a step back begins another sequence.
    """
    positions = inputs.get("position_ids")
    if inputs.get("attention_mask") is not None or not isinstance(positions, Tensor) or positions.shape[-1] < 2:
        return
    by_axis = positions.dim() == 3
    steps = (positions[0] if by_axis else positions).diff(dim=-1)
    apart = steps < 0 if by_axis and positions.shape[0] == 3 else steps != 1
    if bool(apart.any()):
        raise AttachError("packed sequences (position_ids that start again) cannot be steered: give an attention_mask")
