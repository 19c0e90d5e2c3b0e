"""Building the rows of a world, writing them as parquet in the hub's layout, and naming their content by a digest."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mllmeraser.portraits.configs import Configs
from mllmeraser.portraits.people import Preset, World
from mllmeraser.portraits.rows import Row


def build(preset: Preset = "dev", seed: int = 0) -> dict[str, list[Row]]:
    """Rows by config, as plain Python values; the same for the same (version, preset, seed) on every machine."""
    configs = Configs(World(preset, seed))
    return {name: configs.rows(name) for name in configs.configs}


def write(path: str | Path, preset: Preset = "dev", seed: int = 0) -> Path:
    """Write ``<config>/train-00000-of-00001.parquet`` for every config below ``path``, all of them or none.

    Raises:
        FileExistsError: ``path`` exists and is not an empty folder.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        for config, rows in build(preset, seed).items():
            folder = temporary / config
            folder.mkdir()
            pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def digest(preset: Preset = "dev", seed: int = 0) -> str:
    """SHA-256 over every row, pictures by their pixels: independent of PNG and parquet encoders."""
    total = hashlib.sha256()
    for config, rows in sorted(build(preset, seed).items()):
        total.update(config.encode())
        for row in rows:
            total.update(json.dumps(_plain(row), sort_keys=True).encode())
    return total.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"bytes", "path"}:
            return hashlib.sha256(Image.open(io.BytesIO(value["bytes"])).tobytes()).hexdigest()
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
