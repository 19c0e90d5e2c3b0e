"""Where the rows of a benchmark come from: memory, a folder of parquet files, the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.readers import parquet_rows

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)")
Rows = Sequence[Mapping[str, Any]]


class RowSource(Protocol):
    """The configs of a data set, and the rows of each."""

    @property
    def configs(self) -> tuple[str, ...]:
        """Names of the configs."""
        ...

    def rows(self, config: str) -> Rows:
        """The rows of a config, with plain Python values."""
        ...


class MemoryRows:
    """Rows that are already in memory."""

    def __init__(self, data: Mapping[str, Rows]) -> None:
        self._data = data

    @property
    def configs(self) -> tuple[str, ...]:
        """Names of the configs."""
        return tuple(self._data)

    def rows(self, config: str) -> Rows:
        """The rows of a config."""
        return self._data[config]


class ParquetRows:
    """A folder with one sub-folder for each config, each with one or more parquet files (shards)."""

    def __init__(self, folder: Path) -> None:
        shards = sorted(folder.glob("*/*.parquet"))
        self._shards: dict[str, list[Path]] = {}
        for shard in shards:
            self._shards.setdefault(shard.parent.name, []).append(shard)
        if not shards:
            raise InputError(f"{folder}: no parquet files in sub-folders such as Full_Set/ or forget_5/")
        for config, found in self._shards.items():
            _check_complete(folder / config, found)
        self._read: dict[str, Rows] = {}

    @property
    def configs(self) -> tuple[str, ...]:
        """Names of the sub-folders that hold parquet files."""
        return tuple(self._shards)

    def rows(self, config: str) -> Rows:
        """The rows of all shards of a config, read once."""
        if config not in self._read:
            self._read[config] = [row for shard in self._shards[config] for row in parquet_rows(shard)]
        return self._read[config]


def hub_rows(repository: str, revision: str | None = None) -> ParquetRows:
    """Download the parquet files of a data set from the hub (or find them in its cache).

    `MLLMMU/baseline_train_split` stands among the models of the hub: what is no data set is looked for there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    failure: Exception | None = None
    for kind in ("dataset", "model"):
        try:
            folder = snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=["*/*.parquet"])
            return ParquetRows(Path(folder))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            failure = failure or error
            if not isinstance(error, RepositoryNotFoundError | LocalEntryNotFoundError):
                break
    reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    raise InputError(f"{repository}: the data set cannot be downloaded ({reason})") from None


def _check_complete(config: Path, shards: Sequence[Path]) -> None:
    """A download that stopped half-way must not pass for a smaller data set."""
    named = [match.groups() for shard in shards if (match := _SHARD.fullmatch(shard.stem))]
    for split, _, total in named:
        there = {int(number) for name, number, of in named if (name, of) == (split, total)}
        missing = sorted(set(range(int(total))) - there)
        if missing:
            name = f"{split}-{missing[0]:0{len(total)}d}-of-{total}.parquet"
            raise InputError(f"{config}: {len(missing)} of {int(total)} shards are missing, the first is {name}")
