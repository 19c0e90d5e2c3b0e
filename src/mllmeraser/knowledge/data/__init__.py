"""Tables and texts of this room, one entry a line."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def lines(name: str) -> list[str]:
    """The lines of a file."""
    return (FOLDER / name).read_text(encoding="utf-8").strip().splitlines()
