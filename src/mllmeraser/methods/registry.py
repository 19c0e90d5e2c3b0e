"""Finding a method by name: the built-in ones, and those of other packages.

A package adds a method by an entry point of the group `mllmeraser.methods`. Its value is a class (or a function
without arguments) that returns a `Method`.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, cast

from mllmeraser.methods.method import Method
from mllmeraser.samples.errors import InputError

GROUP = "mllmeraser.methods"

# Repeats the entry points of pyproject.toml: the metadata of a checkout may be older than its code.
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
    """Names of all methods, sorted; an InputError if two packages use one name for different methods."""
    return tuple(sorted(_sources()))


def load_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        InputError: There is none (the message lists the known ones), it cannot be imported, or its entry point does
            not name a method.
    """
    sources = _sources()
    if name not in sources:
        raise InputError(f"unknown method {name!r}: there are {', '.join(sorted(sources))}")
    source = sources[name]
    try:
        maker: Any = metadata.EntryPoint(name, source, GROUP).load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"the method {name!r} cannot be loaded from {source}: {error}") from error
    if not callable(maker):
        raise InputError(f"{source} is not a method: it must be a class or a function that returns one")
    made = maker()
    if not all(hasattr(made, part) for part in ("name", "variants", "settings", "make")):
        raise InputError(f"{source} is not a method: it needs name, variants, settings and make")
    if not hasattr(made, "trained"):
        made.trained = True  # other packages may be older than this attribute
    return cast(Method, made)


def _sources() -> dict[str, str]:
    """Name -> `module:attribute`."""
    sources = dict(BUILT_IN)
    for entry in metadata.entry_points(group=GROUP):
        known = sources.setdefault(entry.name, entry.value)
        if known != entry.value:
            raise InputError(f"two methods are called {entry.name!r}: {known} and {entry.value}; uninstall one")
    return sources
