"""Interventions: what can be attached to a model and detached without a trace; where a prompt ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mllmeraser.samples.errors import AttachError, InputError

Rows = Sequence[Iterable[str]] | Tensor
"""Per row of a batch the names of what applies to it, or a boolean matrix (rows, names)."""


class Attachment:
    """Handle of an attached intervention; leaving it as a context manager detaches.

    Attributes:
        names: What is attached, in the order in which a boolean selection numbers it.
    """

    def __init__(self, undo: Callable[[], None], names: Sequence[str] = ()) -> None:
        """Take charge of `undo`, which takes the intervention off the model; it is called at most once."""
        self._undo: Callable[[], None] | None = undo
        self.names: tuple[str, ...] = tuple(names)

    @property
    def attached(self) -> bool:
        """Whether the intervention is still on the model."""
        return self._undo is not None

    def detach(self) -> None:
        """Take the intervention off the model; a second call does nothing."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def select(self, rows: Rows | None) -> None:
        """Choose per row what applies to the batches that follow; None: everything to every row.

        Raises:
            InputError: Here always: an intervention that changes weights cannot differ between rows.
        """
        if rows is not None:
            raise InputError("this intervention applies to all rows alike: it cannot be selected per row")

    def prompt(
        self, length: int | Sequence[int] | Tensor, attention_mask: Tensor | None = None
    ) -> AbstractContextManager[PromptDeclaration]:
        """State where the prompt ends in the forward passes inside the block (see `declare_prompt`)."""
        return declare_prompt(length, attention_mask)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()


@runtime_checkable
class Intervention(Protocol):
    """Anything a model can wear: an eraser, several of them, or the product of another method."""

    def attach(self, model: Any) -> Attachment:
        """Put it on `model`, a `MultimodalModel` or a plain `PreTrainedModel`, and return the handle.

        Raises:
            AttachError: If it could not be attached everywhere; the model is then as it was.
        """

    def attached(self, model: Any) -> AbstractContextManager[Attachment]:
        """As `attach`, for a `with` block."""


def unwrap(model: Any) -> nn.Module:
    """The transformers model inside `model` (a `MultimodalModel`, or the transformers model itself).

    Raises:
        AttachError: If it is neither, or compiled as a whole: hooks inside a compiled graph are not verified.
    """
    from transformers import PreTrainedModel

    inner = getattr(model, "hf", model)
    if not isinstance(inner, PreTrainedModel):
        if callable(getattr(inner, "get_base_model", None)):  # a PeftModel calls past the hooks of the model inside
            raise AttachError(
                f"cannot attach to a {type(model).__name__}: give what its get_base_model() returns, and call that; "
                "the adapter stays in it"
            )
        raise AttachError(
            f"cannot attach to a {type(model).__name__}: give a model of load_model() or a transformers "
            "PreTrainedModel (the one inside a wrapper)"
        )
    if getattr(inner, "_compiled_call_impl", None) is not None:
        raise AttachError("the model was compiled with model.compile(): attach to the uncompiled model")
    hf: nn.Module = inner
    return hf


@dataclass(frozen=True, eq=False)
class PromptDeclaration:
    """Where the prompt ends, as the caller states it; compared by identity.

    Attributes:
        ends: For each row the number of columns up to and including its last prompt token, counted from the
            start of the sequence: padding on the left and a cached prefix included. One value: for all rows.
        mask: (rows, columns) of the whole prompt, true or 1 at real tokens; None if it is not known.
    """

    ends: tuple[int, ...]
    mask: Tensor | None = None

    def ends_of(self, rows: int) -> tuple[int, ...]:
        """The end for each of `rows` rows.

        Raises:
            InputError: If the declaration is for another number of rows.
        """
        if len(self.ends) == 1:
            return self.ends * rows
        if len(self.ends) != rows:
            raise InputError(f"the prompt was declared for {len(self.ends)} rows, the batch has {rows}")
        return self.ends


_DECLARED: ContextVar[PromptDeclaration | None] = ContextVar("mllmeraser_prompt", default=None)


def declared_prompt() -> PromptDeclaration | None:
    """The innermost declaration in force, or None."""
    return _DECLARED.get()


@contextmanager
def declare_prompt(
    length: int | Sequence[int] | Tensor, attention_mask: Tensor | None = None
) -> Iterator[PromptDeclaration]:
    """State where the prompt ends in the forward passes inside the block.

    Needed where it cannot be seen: a prompt followed by an answer to be scored, a prompt fed in pieces, a
    forward pass that continues from a cache. `generate` knows its own prompt and needs (and takes) none.

    Args:
        length: Number of columns up to and including the last prompt token, from the start of the sequence
            (left padding and cached prefix included); one for all rows, or one per row.
        attention_mask: Mask of the whole prompt (rows, columns); needed for right-padded prompts in pieces.

    Raises:
        InputError: If a length is not positive or the mask does not cover the prompt.
    """
    values = torch.as_tensor(length).reshape(-1).tolist()
    if not values or any(value != int(value) or value < 1 for value in values):
        raise InputError(f"a prompt has a whole number of columns, at least 1, not {length!r}")
    ends = tuple(int(value) for value in values)
    if attention_mask is not None and (attention_mask.dim() != 2 or attention_mask.shape[1] < max(ends)):
        raise InputError(
            f"the attention mask of a prompt of {max(ends)} columns has shape (rows, >= {max(ends)}), "
            f"not {tuple(attention_mask.shape)}"
        )
    token = _DECLARED.set(PromptDeclaration(ends, attention_mask))
    try:
        declaration = _DECLARED.get()
        assert declaration is not None
        yield declaration
    finally:
        _DECLARED.reset(token)
