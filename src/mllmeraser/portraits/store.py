"""The rows of a world, their parquet files in the layout of the hub, and their digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mllmeraser.portraits.configs import Configs
from mllmeraser.portraits.people import Preset, World
from mllmeraser.portraits.rows import Row
from mllmeraser.samples.files import whole_folder
from mllmeraser.samples.images import decode_image


def build(preset: Preset = "dev", seed: int = 0) -> dict[str, list[Row]]:
    """Rows by config, as plain Python values, from (version, preset, seed) alone on every machine."""
    configs = Configs(World(preset, seed))
    return {name: configs.rows(name) for name in configs.configs}


def write(path: str | Path, preset: Preset = "dev", seed: int = 0) -> Path:
    """Write ``<config>/train-00000-of-00001.parquet`` below ``path`` for every config, in one step.

    Raises:
        FileExistsError: ``path`` exists and is not an empty folder.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder")
    with whole_folder(target, force=True) as folder:
        for config, rows in build(preset, seed).items():
            (folder / config).mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows), folder / config / "train-00000-of-00001.parquet")
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
            return hashlib.sha256(decode_image(value["bytes"], "picture").tobytes()).hexdigest()
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
