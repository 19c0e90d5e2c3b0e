"""Interventions, which attach to a model and detach without a trace, and the declared end of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from mllmeraser.samples.errors import AttachError, InputError

Rows = Sequence[Iterable[str]] | Tensor
"""For each row of a batch the names of its interventions, or a boolean matrix (rows, names)."""
A = TypeVar("A", bound="Attachment")


class Attachment:
    """Handle of an attached intervention, also a context manager that detaches at its end.

    Attributes:
        names: The attached interventions, in the column order of a boolean selection.
    """

    def __init__(self, undo: Callable[[], None], names: Sequence[str] = ()) -> None:
        """Call `undo` at most once, to remove the intervention from the model."""
        self._undo: Callable[[], None] | None = undo
        self.names: tuple[str, ...] = tuple(names)

    @property
    def attached(self) -> bool:
        """Whether the intervention is still on the model."""
        return self._undo is not None

    def detach(self) -> None:
        """Remove the intervention from the model; a second call does nothing."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def select(self, rows: Rows | None) -> None:
        """Choose the interventions of each row for the next batches; None applies all to every row.

        Raises:
            InputError: Always in this base class: changed weights cannot differ between rows.
        """
        if rows is not None:
            raise InputError("this intervention applies to all rows: it cannot be selected per row")

    def prompt(
        self, length: int | Sequence[int] | Tensor, attention_mask: Tensor | None = None
    ) -> AbstractContextManager[PromptDeclaration]:
        """Declare the end of the prompt for the forward passes inside the block (see `declare_prompt`)."""
        return declare_prompt(length, attention_mask)

    def __enter__(self: A) -> A:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


@runtime_checkable
class Intervention(Protocol):
    """An eraser, a group of erasers, or the product of another method. Subclasses inherit `attached`."""

    def attach(self, model: Any) -> Attachment:
        """Attach it to `model`, a `MultimodalModel` or a plain `PreTrainedModel`, and return the handle.

        Raises:
            AttachError: If it could not be attached everywhere; the model is then unchanged.
        """

    def attached(self, model: Any) -> AbstractContextManager[Attachment]:
        """As `attach`, for a `with` block; the handle detaches at its end."""
        return self.attach(model)


def unwrap(model: Any) -> nn.Module:
    """The transformers model of a `MultimodalModel`, or `model` itself if it is one.

    Raises:
        AttachError: If it is neither, or compiled as a whole: hooks inside a compiled graph are not verified.
    """
    from transformers import PreTrainedModel

    inner = getattr(model, "hf", model)
    if not isinstance(inner, PreTrainedModel):
        advice = "give a model of load_model() or a transformers PreTrainedModel (the one inside a wrapper)"
        if callable(getattr(inner, "get_base_model", None)):  # a PeftModel bypasses the hooks of the model inside
            advice = "attach to the model of its get_base_model(), and call that; the adapter stays in it"
        raise AttachError(f"cannot attach to a {type(model).__name__}: {advice}")
    if getattr(inner, "_compiled_call_impl", None) is not None:
        raise AttachError("the model was compiled with model.compile(): attach to the uncompiled model")
    hf: nn.Module = inner
    return hf


@dataclass(frozen=True, eq=False)
class PromptDeclaration:
    """The end of the prompt, as the caller declares it; compared by identity.

    Attributes:
        ends: For each row, or once for all rows, the number of columns up to and including the last prompt token. They
            count from the start of the sequence: left padding and a cached prefix included.
        mask: (rows, columns) of the whole prompt, true or 1 at real tokens; None if unknown.
    """

    ends: tuple[int, ...]
    mask: Tensor | None = None

    def ends_of(self, rows: int) -> tuple[int, ...]:
        """The ends of `rows` rows, or an `InputError` if the declaration is for another number of rows."""
        if len(self.ends) == 1:
            return self.ends * rows
        if len(self.ends) != rows:
            raise InputError(f"the prompt was declared for {len(self.ends)} rows, the batch has {rows}")
        return self.ends


_DECLARED: ContextVar[PromptDeclaration | None] = ContextVar("mllmeraser_prompt", default=None)


def declared_prompt() -> PromptDeclaration | None:
    """The innermost active declaration, or None."""
    return _DECLARED.get()


@contextmanager
def declare_prompt(
    length: int | Sequence[int] | Tensor, attention_mask: Tensor | None = None
) -> Iterator[PromptDeclaration]:
    """Declare the end of the prompt for the forward passes inside the block.

    A forward pass does not show the end if an answer follows the prompt, if the prompt comes in pieces, or if the pass
    continues from a cache. Declare nothing for `generate`: it knows its own prompt.

    Args:
        length: As `PromptDeclaration.ends`: one number for all rows, or one for each row.
        attention_mask: Mask of the whole prompt (rows, columns); required for right-padded prompts in pieces.

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
    declaration = PromptDeclaration(ends, attention_mask)
    token = _DECLARED.set(declaration)
    try:
        yield declaration
    finally:
        _DECLARED.reset(token)
