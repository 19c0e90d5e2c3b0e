"""The checkpoint of `embedded:smol`: put together once, then an ordinary folder in the user's cache."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from filelock import FileLock

from mllmeraser.embedded.smol.base import DIGEST, base_file, file_digest
from mllmeraser.samples.files import whole_folder

PARTS = Path(__file__).parent / "weights" / "parts.safetensors"
CACHE_VARIABLE = "MLLMERASER_CACHE"
LAYOUT = 1
"""Raise it if the same files give another checkpoint."""
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """`MLLMERASER_CACHE`, or `mllmeraser` in the user's folder for caches."""
    given = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "mllmeraser"


def checkpoint() -> Path:
    """Folder of the checkpoint (540 MB). The first call puts it together in about a minute; others wait for it.

    Raises:
        FileNotFoundError: SmolLM2 or the package `gguf` is missing; the message names two ways to get them.
    """
    folder = cache_folder() / f"smol-{LAYOUT}-{DIGEST[:8]}-{file_digest(PARTS)[:8]}"
    if _whole(folder):
        return folder
    file = base_file()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Without the lock, a second first start would replace the folder that the first one has begun to read.
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not _whole(folder):
            log.warning("embedded:smol is put together from SmolLM2 and the parts that ship, once, in %s", folder)
            with whole_folder(folder, force=True) as fresh:
                fresh.mkdir(parents=True)
                write_checkpoint(file, fresh)
                shutil.copy(PARTS.with_name("README.md"), fresh)
    return folder


def _whole(folder: Path) -> bool:
    """Whether the folder is there; it appears in one step."""
    return (folder / "config.json").is_file()


def write_checkpoint(base: Path, folder: Path, parts: Path = PARTS) -> None:
    """Write base, tower and trained parts as one LLaVA in float32, in the usual layout of transformers."""
    from mllmeraser.embedded.smol.architecture import Smol, assemble
    from mllmeraser.embedded.smol.base import load_base
    from mllmeraser.embedded.smol.parts import merge_parts

    language, tokenizer = load_base(base)
    model = assemble(language, tokenizer)
    merge_parts(model, parts)
    Smol().save_checkpoint(model, tokenizer, folder)
