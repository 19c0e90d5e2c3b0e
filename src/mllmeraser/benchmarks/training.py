"""Rows in training form, and whose they are.

Published training rows are `image` and `metadata`; not all of them carry an ID. `MLLMMU/baseline_train_split` has
one config for each forget and retain split, in the layout of the data set itself; `ft_Data` holds everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mllmeraser.benchmarks.fields import get, identifier, pictures
from mllmeraser.benchmarks.rows import RowSource
from mllmeraser.samples.errors import InputError

EVERYBODY = "ft_Data"


class TrainingRows:
    """The training form of the people of a data set.

    Args:
        name: What the data set is called in errors.
        source: The data set, for `ft_Data` and for the pictures that tell whose a row without an ID is.
        splits: The training form by split, if it is there.
    """

    def __init__(self, name: str, source: RowSource, splits: RowSource | None = None) -> None:
        self._name = name
        self._source = source
        self._splits = splits
        self._owners: dict[bytes, str] = {}
        self._searched: set[str] = set()

    def rows(self, published: Sequence[str], people: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
        """IDs and training rows.

        Args:
            published: Configs of the training form by split that hold exactly what is wanted; without them, or
                where one is missing, everybody is given.
            people: Configs in evaluation form in which pictures are looked for.

        Raises:
            InputError: There is no training form, or a row belongs to nobody.
        """
        splits = self._splits
        if splits is not None and published and set(published) <= set(splits.configs):
            return [self._owned(row, config, people) for config in published for row in splits.rows(config)]
        if EVERYBODY in self._source.configs:
            return [self._owned(row, EVERYBODY, people) for row in self._source.rows(EVERYBODY)]
        if splits is not None and set(people[:2]) <= set(splits.configs):
            return [self._owned(row, config, people) for config in people[:2] for row in splits.rows(config)]
        has = ", ".join(self._source.configs)
        raise InputError(
            f"{self._name}: has no config {EVERYBODY}; it has {has}; nor is baseline_train_split beside it"
        )

    def _owned(self, row: Mapping[str, Any], config: str, people: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
        if get(row, "ID", "unique_id") is not None:
            return identifier(row, config), row
        shown = pictures(row, config)
        owner = self._owner(shown[0].tobytes(), people) if shown else None
        if owner is None:
            raise InputError(
                f"{config}: a row has no ID, and its picture is not that of anybody in {', '.join(people)}"
            )
        return owner, row

    def _owner(self, pixels: bytes, people: Sequence[str]) -> str | None:
        digest = hashlib.sha256(pixels).digest()
        for config in people:
            if digest in self._owners:
                break
            if config not in self._searched and config in self._source.configs:
                self._searched.add(config)
                for row in self._source.rows(config):
                    for picture in pictures(row, config):
                        self._owners[hashlib.sha256(picture.tobytes()).digest()] = identifier(row, config)
        return self._owners.get(digest)
