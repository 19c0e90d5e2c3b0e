"""The content of a request folder: every entry is used, refused, or named in one line."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from mllmeraser.samples.errors import InputError, InputWarning
from mllmeraser.samples.images import is_image_file

TABLES = (".jsonl", ".parquet")
CARDS = ("request.yaml", "request.yml")
BY_THE_SYSTEM = ("Thumbs.db", "desktop.ini", "__MACOSX", ".DS_Store", ".localized")
"""File managers leave these (and `._name`) in folders; they hold nothing of the user and are not mentioned."""


@dataclass
class Entries:
    """The visible entries of one folder, by kind, each sorted by name."""

    folder: Path
    pictures: list[Path] = field(default_factory=list)
    cards: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)

    def card(self) -> Path | None:
        """The `request.yaml`, in any case and with either suffix; two of them are an `InputError`."""
        if len(self.cards) > 1:
            names = " and ".join(card.name for card in self.cards)
            raise InputError(f"{self.folder}: holds {names}: keep one")
        return next(iter(self.cards), None)

    def say_left_out(self) -> None:
        """Name the entries that are nothing of a request."""
        left_out(self.other)


def left_out(paths: list[Path]) -> None:
    """Name entries that are not used, in one line."""
    if paths:
        shown = ", ".join(path.name for path in paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
        warnings.warn(f"{paths[0].parent}: left out: {shown}", InputWarning, stacklevel=3)


def entries_of(folder: Path) -> Entries:
    """Sort the entries of a folder by kind.

    Raises:
        InputError: The folder cannot be listed, or an entry is a broken link.
    """
    found = Entries(folder)
    try:
        paths = sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be read ({error})") from None
    for path in paths:
        if path.name in BY_THE_SYSTEM or path.name.startswith("._"):
            continue
        if path.is_symlink() and not path.exists():
            raise InputError(f"{path}: is a broken link")
        _kind(found, path).append(path)
    return found


def _kind(found: Entries, path: Path) -> list[Path]:
    if path.name.startswith("."):
        return found.other
    if path.is_dir():
        return found.folders
    if not path.is_file():
        return found.other
    if path.name.casefold() in CARDS:
        return found.cards
    if path.suffix.casefold() in TABLES:
        return found.tables
    return found.pictures if is_image_file(path) else found.other
