"""Finding a method by name: the built-in ones, and those that other packages announce.

A package adds a method by an entry point of the group `mllmeraser.methods` whose value is a class (or a
function without arguments) that gives a `Method`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Any, cast

from mllmeraser.methods.method import Method
from mllmeraser.samples.errors import InputError

GROUP = "mllmeraser.methods"

# Stated here as well as in pyproject.toml: a checkout whose metadata is older than its code still has them.
BUILT_IN: dict[str, str] = {
    "ga": "mllmeraser.methods.gradient:GradientAscent",
    "grad-diff": "mllmeraser.methods.gradient:GradDiff",
    "kl-min": "mllmeraser.methods.gradient:KLMin",
    "npo": "mllmeraser.methods.npo:NPO",
    "idk": "mllmeraser.methods.idk:IDK",
    "mmunlearner": "mllmeraser.methods.mmunlearner:MMUnlearner",
    "system-prompt": "mllmeraser.methods.system_prompt:SystemPrompt",
    "block-list": "mllmeraser.methods.block_list:BlockList",
}


def method_names() -> tuple[str, ...]:
    """Names of all methods, sorted.

    Raises:
        InputError: If two packages announce different methods by one name.
    """
    return tuple(sorted(_sources()))


def load_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        InputError: If there is none (the message lists the known ones), it cannot be imported, or what its
            entry point names is no method.
    """
    sources = _sources()
    if name not in sources:
        raise InputError(f"unknown method {name!r}: there are {', '.join(sorted(sources))}")
    try:
        make = _resolve(sources[name])
    except (ImportError, AttributeError) as error:
        raise InputError(f"the method {name!r} cannot be loaded from {sources[name]}: {error}") from error
    made = make()
    if not all(hasattr(made, part) for part in ("name", "variants", "settings", "make")):
        raise InputError(f"{sources[name]} is not a method: it needs name, variants, settings and make")
    if not hasattr(made, "trained"):
        made.trained = True  # other packages may have been written before this attribute
    return cast(Method, made)


def _sources() -> dict[str, str]:
    """Name -> `module:attribute`."""
    found = dict(BUILT_IN)
    for entry in metadata.entry_points(group=GROUP):
        known = found.setdefault(entry.name, entry.value)
        if known != entry.value:
            raise InputError(f"two methods are called {entry.name!r}: {known} and {entry.value}; uninstall one")
    return found


def _resolve(source: str) -> Callable[[], Any]:
    module, _, attribute = source.partition(":")
    target: Any = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        target = getattr(target, part)
    if not callable(target):
        raise InputError(f"{source} is no method: it must be a class or a function that gives one")
    return target
