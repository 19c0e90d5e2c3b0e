"""Errors of pydantic in one line."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError, root: str = "settings") -> str:
    """Return `place: message` of the first fault; `root` is the place of a fault in the object as a whole."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or root
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"
