"""Families of other packages, announced by an entry point of the group `mllmeraser.families`.

Its value is a class, or a function without arguments, that returns a `Family`. It is imported only for a model without
a built-in adapter, or for a list of families. So a broken package does not affect other models.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata

from mllmeraser.models.families.base import Family

GROUP = "mllmeraser.families"


@lru_cache(maxsize=1)
def announced() -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """Families of other packages, and one line about each unusable one."""
    usable, problems = [], []
    for entry in metadata.entry_points(group=GROUP):
        try:
            family = entry.load()()
        except Exception as error:  # the import of another package may raise any error
            reason = f"{type(error).__name__} {next(iter(str(error).splitlines()), '')}".strip()
            problems.append(f"the family {entry.name!r} of {entry.value} cannot be loaded: {reason}")
            continue
        if isinstance(family, Family):
            usable.append(family)
        else:
            problems.append(f"the family {entry.name!r} of {entry.value} is a {type(family).__name__}, not a Family")
    return tuple(usable), tuple(problems)
