"""Atomic writes: a result appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mllmeraser.samples.errors import InputError

OURS = ("eraser_config.json", "product_config.json", "report.html", "scores.json")
"""This package wrote a folder that holds one of these files, and `force` may replace it."""


def check_target(path: Path, *, force: bool = False) -> Path:
    """Return `path` if a result may be written there; call this before the work starts.

    Raises:
        InputError: `path` exists and `force` is off; this package did not write the folder at `path`; or the
            parent folder is not writable.
    """
    path = Path(path)
    if os.path.lexists(path):
        if not force:
            raise InputError(f"{path} exists already: choose another place, or say --force to replace it")
        if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in OURS):
            raise InputError(f"{path} holds something that is not a result of this command: choose another place")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{path} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: no permission to write in {above}")
    return path


@contextmanager
def whole_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` that does not exist yet; move it to `path` if the block raises no error.

    After an error nothing new remains, and the old folder at `path` is unchanged.

    Raises:
        InputError: As `check_target`.
    """
    path = check_target(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield beside / "new"
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            path.rename(beside / "old")
        (beside / "new").rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def whole_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an empty file beside `path` to be written; it replaces `path` if the block raises no error.

    Raises:
        InputError: As `check_target`, or `path` is a folder.
    """
    path = check_target(path, force=force)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    # In a folder of its own the file gets the mode that the user's umask gives.
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    beside = folder / "new"
    beside.touch()
    try:
        yield beside
        beside.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: str | bytes, *, force: bool = False) -> None:
    """Write `content` (text as UTF-8) to `path` in one step, as `whole_file`."""
    with whole_file(path, force=force) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
