"""Standing between a model and whoever asks it: wrapped methods of one object, taken off in any order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

Around = Callable[..., Any]
"""Called with the method it stands around, and then with the arguments of the call."""

_MISSING = object()


class _Chain:
    """What stands in the place of a method: the wrappers around it, the last one asked first."""

    def __init__(self, inner: Callable[..., Any], before: Any) -> None:
        self.inner, self.before = inner, before
        self.arounds: list[tuple[object, Around]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.inner
        for _, around in self.arounds:
            call = partial(around, call)
        return call(*args, **kwargs)


def intercept(owner: Any, method: str, around: Around) -> Callable[[], None]:
    """Let calls of `owner.method(...)` go to `around(method, ...)`; returns what undoes it.

    The class and other instances are not touched. Once all wrappers are gone, so is the attribute.
    """
    chain = vars(owner).get(method)
    if not isinstance(chain, _Chain):
        chain = _Chain(getattr(owner, method), vars(owner).get(method, _MISSING))
        setattr(owner, method, chain)
    entry = (object(), around)
    chain.arounds.append(entry)
    return partial(_release, owner, method, chain, entry)


def intercepted(owner: Any) -> bool:
    """Whether something stands before a method of `owner`."""
    return any(isinstance(value, _Chain) for value in vars(owner).values())


def _release(owner: Any, method: str, chain: _Chain, entry: tuple[object, Around]) -> None:
    chain.arounds.remove(entry)
    if chain.arounds or vars(owner).get(method) is not chain:
        return
    if chain.before is _MISSING:
        delattr(owner, method)
    else:
        setattr(owner, method, chain.before)
