"""Sources of the rows of a benchmark: a folder of parquet files, the Hugging Face hub, and the training form."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mllmeraser.benchmarks.fields import get, identifier, pictures
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.readers import parquet_rows

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)")
Row = Mapping[str, Any]
Rows = Sequence[Row]
EVERYBODY = "ft_Data"


class RowSource(Protocol):
    """The configs of a data set, and the rows of each."""

    @property
    def configs(self) -> tuple[str, ...]:
        """Names of the configs."""
        ...

    def rows(self, config: str) -> Rows:
        """The rows of a config, with plain Python values."""
        ...


class ParquetRows:
    """A folder with one sub-folder of parquet files (shards) for each config."""

    def __init__(self, folder: Path) -> None:
        shards = sorted(folder.glob("*/*.parquet"))
        self._shards: dict[str, list[Path]] = {}
        for shard in shards:
            self._shards.setdefault(shard.parent.name, []).append(shard)
        if not shards:
            raise InputError(f"{folder}: no parquet files in sub-folders such as Full_Set/ or forget_5/")
        for config, files in self._shards.items():
            _check_complete(folder / config, files)
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
    """Download the parquet files of a data set from the hub, or read them from its cache.

    If there is no such data set, this looks among the models of the hub, where `MLLMMU/baseline_train_split` is.
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
    """Refuse an incomplete download, which would look like a smaller data set."""
    named = [match.groups() for shard in shards if (match := _SHARD.fullmatch(shard.stem))]
    for split, _, total in named:
        there = {int(number) for name, number, of in named if (name, of) == (split, total)}
        missing = sorted(set(range(int(total))) - there)
        if missing:
            name = f"{split}-{missing[0]:0{len(total)}d}-of-{total}.parquet"
            raise InputError(f"{config}: {len(missing)} of {int(total)} shards are missing, the first is {name}")


class TrainingRows:
    """The training form of the people of a data set, and the person of each row.

    Published training rows have `image` and `metadata`, and some have no ID. `MLLMMU/baseline_train_split` has one
    config for each forget and retain split, in the layout of the data set. `ft_Data` holds all people.

    Args:
        name: Name of the data set in errors.
        source: The data set, for `ft_Data` and for the pictures that identify the person of a row without an ID.
        splits: The training form by split, if there is one.
    """

    def __init__(self, name: str, source: RowSource, splits: RowSource | None = None) -> None:
        self._name, self._source, self._splits = name, source, splits
        self._owners: dict[str, dict[bytes, str]] = {}

    def rows(self, published: Sequence[str], people: Sequence[str]) -> list[tuple[str, Row]]:
        """IDs and training rows.

        Args:
            published: Configs of the training form by split with exactly the wanted people. If there are none, or one
                is missing, the rows are those of all people.
            people: Configs in evaluation form to search for pictures.

        Raises:
            InputError: There is no training form, or a row belongs to no known person.
        """
        splits = self._splits
        if splits is not None and published and set(published) <= set(splits.configs):
            return [self._owned(row, config, people) for config in published for row in splits.rows(config)]
        if EVERYBODY in self._source.configs:
            return [self._owned(row, EVERYBODY, people) for row in self._source.rows(EVERYBODY)]
        if splits is not None and set(people[:2]) <= set(splits.configs):
            return [self._owned(row, config, people) for config in people[:2] for row in splits.rows(config)]
        has = ", ".join(self._source.configs)
        raise InputError(f"{self._name}: has no config {EVERYBODY} (it has {has}), nor baseline_train_split beside it")

    def _owned(self, row: Row, config: str, people: Sequence[str]) -> tuple[str, Row]:
        if get(row, "ID", "unique_id") is not None:
            return identifier(row, config), row
        shown = pictures(row, config)
        owner = self._owner(shown[0].tobytes(), people) if shown else None
        if owner is None:
            raise InputError(f"{config}: a row has no ID, and its picture shows no person of {', '.join(people)}")
        return owner, row

    def _owner(self, pixels: bytes, people: Sequence[str]) -> str | None:
        digest = hashlib.sha256(pixels).digest()
        for config in people:
            if config not in self._owners and config in self._source.configs:
                rows = self._source.rows(config)
                shown = ((picture, row) for row in rows for picture in pictures(row, config))
                self._owners[config] = {hashlib.sha256(p.tobytes()).digest(): identifier(r, config) for p, r in shown}
            if digest in self._owners.get(config, {}):
                return self._owners[config][digest]
        return None
