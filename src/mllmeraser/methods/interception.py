"""Wrapping methods of a model, so that a product sees each question before the model does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

from mllmeraser.models.intervention import Attachment, Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import AttachError

Wrapper = Callable[..., Any]
"""Called with the wrapped method, followed by the arguments of the call."""

_MISSING = object()


class _Chain:
    """Replaces a method: calls the wrappers around it, the last one first."""

    def __init__(self, owner: Any, method: str) -> None:
        self.owner, self.method = owner, method
        self.inner, self.before = getattr(owner, method), vars(owner).get(method, _MISSING)
        self.wrappers: list[tuple[object, Wrapper]] = []
        setattr(owner, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.inner
        for _, wrapper in self.wrappers:
            call = partial(wrapper, call)
        return call(*args, **kwargs)

    def remove(self, entry: tuple[object, Wrapper]) -> None:
        self.wrappers.remove(entry)
        if not self.wrappers and vars(self.owner).get(self.method) is self:
            delattr(self.owner, self.method)
            if self.before is not _MISSING:
                setattr(self.owner, self.method, self.before)


def intercept(owner: Any, method: str, wrapper: Wrapper) -> Callable[[], None]:
    """Redirect `owner.method(...)` to `wrapper(method, ...)`; return a function that undoes it, in any order.

    The class and its other instances are not changed. The last undo also removes the attribute.
    """
    present = vars(owner).get(method)
    chain = present if isinstance(present, _Chain) else _Chain(owner, method)
    entry = (object(), wrapper)
    chain.wrappers.append(entry)
    return partial(chain.remove, entry)


def intercepted(owner: Any) -> bool:
    """Whether any method of `owner` is wrapped."""
    return any(isinstance(value, _Chain) for value in vars(owner).values())


class WrappingProduct(Intervention, ABC):
    """Base of the Interventions that wrap methods of a model of `load_model`."""

    method: ClassVar[str]

    @abstractmethod
    def wrappers(self, model: MultimodalModel) -> Iterable[tuple[Any, str, Wrapper]]:
        """Owner, name and wrapper of every wrapped method; an AttachError for a model that this does not fit."""

    def attach(self, model: Any) -> Attachment:
        """Attach until detached.

        Raises:
            AttachError: `model` is a plain transformers model, or this product belongs to another model.
        """
        if not isinstance(model, MultimodalModel):
            raise AttachError(
                f"{self.method} reads questions and pictures, so it needs a model of load_model(), not a plain "
                "transformers model"
            )
        with ExitStack() as undo:
            for owner, name, wrapper in self.wrappers(model):
                undo.callback(intercept(owner, name, wrapper))
            return Attachment(undo.pop_all().close, [self.method])
