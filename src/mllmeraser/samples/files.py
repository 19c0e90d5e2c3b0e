"""Writing results whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mllmeraser.samples.errors import InputError

OURS = ("eraser_config.json", "product_config.json", "report.html", "scores.json")
"""A folder that holds one of these was written by this package and may be replaced on request."""


def check_target(path: Path, *, force: bool = False) -> Path:
    """Return `path` if a result may be written there; to be called before the work, not after it.

    Raises:
        InputError: If something stands there and `force` is off; if it is a folder that this package did not
            write; if the folder above cannot be written to.
    """
    path = Path(path)
    if os.path.lexists(path):
        if not force:
            raise InputError(f"{path} exists already: choose another place, or say --force to replace it")
        if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in OURS):
            raise InputError(f"{path} holds something that is not a result of this command: choose another place")
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise InputError(f"{path} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: no permission to write in {above}")
    return path


@contextmanager
def whole_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a place beside `path` that does not exist yet; move it to `path` if the block ends well.

    If the block raises, nothing is left behind and what stood at `path` still stands.

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


def write_whole(path: Path, content: str | bytes, *, force: bool = False) -> None:
    """Write `content` (text as UTF-8) to `path` in one step: readers see the old file or the new one.

    Raises:
        InputError: As `check_target`.
    """
    path = check_target(path, force=force)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
