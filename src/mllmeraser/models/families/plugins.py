"""Families that other packages announce by an entry point of the group `mllmeraser.families`.

Its value is a class, or a function without arguments, that gives a `Family`. It is imported when a model is met that
no built-in adapter serves, or when families are listed: a broken package never stands in the way of another model.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata

from mllmeraser.models.families.base import Family

GROUP = "mllmeraser.families"


@lru_cache(maxsize=1)
def announced() -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """Families of other packages, and one line about each that cannot be used."""
    made, problems = [], []
    for entry in metadata.entry_points(group=GROUP):
        try:
            family = entry.load()()
        except Exception as error:  # whatever somebody else's module raises while it is imported
            reason = f"{type(error).__name__} {next(iter(str(error).splitlines()), '')}".strip()
            problems.append(f"the family {entry.name!r} of {entry.value} cannot be loaded: {reason}")
            continue
        if isinstance(family, Family):
            made.append(family)
        else:
            problems.append(f"the family {entry.name!r} of {entry.value} is a {type(family).__name__}, not a Family")
    return tuple(made), tuple(problems)
