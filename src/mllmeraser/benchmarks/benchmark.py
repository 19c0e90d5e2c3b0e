"""The sets of a data set as Samples, for any split and fold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from mllmeraser.benchmarks.fields import Person, get, identifier, person
from mllmeraser.benchmarks.mllmu import Prompts, Row, evaluation_samples, flat_sample, training_samples
from mllmeraser.benchmarks.rows import Rows, RowSource, TrainingRows
from mllmeraser.benchmarks.thinning import thin as thin
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.text import words

EVALUATED = ("forget", "test", "retain", "retain_heldout", "celebrity", "general", "perception", "holdout")
SETS = (
    *EVALUATED, "neighbours", "refusal", "restricted", "benign", "perturbed", "multihop",
    "train", "train_forget", "train_retain",
)  # fmt: skip
ABOUT_FORGOTTEN = ("perception", "perturbed", "multihop")
CONFIGS = {
    "test": "Test_Set", "retain_heldout": "Test_Set", "celebrity": "Retain_Set",
    "restricted": "refusal", "benign": "refusal",
    "train": "ft_Data", "train_forget": "ft_Data", "train_retain": "ft_Data",
}  # fmt: skip
SPLIT = re.compile(r"forget_(\d{1,2})")
FOLD = re.compile(r"forget_\d{1,2}_fold(\d+)")


class Benchmark:
    """Forget and retain people, and all questions about them.

    Args:
        name: Name of the benchmark in records.
        source: Its rows.
        prompts: `"instructed"` adds a line on the answer's format to generation and cloze questions. None: only for
            other data sets than ours, because our models are trained on exactly our questions.
        training: Rows in training form, one config for each forget and retain split
            (`MLLMMU/baseline_train_split`); None: those of `ft_Data`.
    """

    def __init__(
        self, name: str, source: RowSource, *, prompts: Prompts | None = None, training: RowSource | None = None
    ) -> None:
        self.name = name
        self.source = source
        self._training = TrainingRows(name, source, training)
        synthetic = {"general", "holdout"} <= set(source.configs)
        self.prompts: Prompts = prompts or ("plain" if synthetic else "instructed")

    @property
    def splits(self) -> tuple[str, ...]:
        """The forget splits, smallest first."""
        return tuple(sorted(filter(SPLIT.fullmatch, self.source.configs), key=_percent))

    @property
    def folds(self) -> int:
        """The number of folds: the published ones, else the largest number of disjoint ones."""
        published = [int(m.group(1)) for config in self.source.configs if (m := FOLD.fullmatch(config))]
        if published:
            return 1 + max(published)
        largest = len(self._ids(self.splits[-1])) if self.splits else 0
        return max(1, len(self.people) // largest) if largest else 1

    @cached_property
    def people(self) -> tuple[str, ...]:
        """IDs of all people in the training data, with those of the forget splits first."""
        ordered = [key for split in self.splits for key in self._ids(split)]
        everybody = "Full_Set" if "Full_Set" in self.source.configs else self._retain_config(self.splits[0])
        return tuple(dict.fromkeys([*ordered, *self._ids(everybody)]))

    @cached_property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Names by ID, for text-only questions about the people of a request."""
        return {key: (about.name,) for key, about in self._persons.items() if about.name}

    @cached_property
    def values(self) -> dict[str, tuple[str, ...]]:
        """All values of every attribute; those of `name` and `identity` are the names."""
        values: dict[str, dict[str, None]] = {}
        for row in self._people_rows():
            about = person(row, "biography")
            facts = dict(about.facts) | ({"name": about.name, "identity": about.name} if about.name else {})
            for attribute, value in facts.items():
                values.setdefault(attribute, {})[value] = None
        return {attribute: tuple(each) for attribute, each in values.items()}

    @cached_property
    def _persons(self) -> dict[str, Person]:
        """The people of the forget and retain sets by ID, without celebrities, who may have the same IDs."""
        configs = [*self.splits, *(self._retain_config(split) for split in self.splits[:1]), "Full_Set"]
        persons: dict[str, Person] = {}
        for config in configs:
            for row in self.source.rows(config) if config in self.source.configs else ():
                persons.setdefault(identifier(row, config), person(row, config))
        return persons

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word of every question, answer, option and biography: the vocabulary of a model of this world.

        The `vocabulary` of the source comes first, because the source may have to draw every row.
        """
        known = getattr(self.source, "vocabulary", None)
        if known is not None:
            return frozenset(known)
        return frozenset(
            word
            for config in self.source.configs
            for row in self.source.rows(config)
            for text in _texts(row)
            for word in words(text)
        )

    def forget_ids(self, split: str = "forget_5", fold: int = 0) -> tuple[str, ...]:
        """IDs of the people to forget.

        Fold 0 is the config of the split, and fold k the config `<split>_fold<k>`. Without such a config, the people
        are rotated by the size of the largest split, so that the folds are disjoint.
        """
        if split not in self.splits:
            raise InputError(f"{self.name}: has no split {split!r}; splits: {', '.join(self.splits) or 'none'}")
        if not 0 <= fold < self.folds:
            raise InputError(f"{self.name}: fold {fold} is out of range; folds: 0 to {self.folds - 1}")
        published = self._fold_config(split, fold)
        if published is not None:
            return self._ids(published)
        start = fold * len(self._ids(self.splits[-1]))
        return self.people[start : start + len(self._ids(split))]

    def samples(
        self, name: str, split: str = "forget_5", fold: int = 0, *, picture_seed: int | None = None
    ) -> list[Sample]:
        """The samples of one set.

        `perception`, `perturbed` and `multihop` leave out the retained people. `neighbours` has retained people who
        are close to the forgotten ones. A row that is `also_about` somebody forgotten is in no set about others.

        Args:
            name: The set.
            split: The people to forget.
            fold: Their rotation.
            picture_seed: Seed of the choice among several pictures of a row; None: all of them.

        Raises:
            InputError: No such set or split, a missing config, or an unreadable row.
        """
        if name not in SETS:
            raise InputError(f"unknown set {name!r}; known sets: {', '.join(SETS)}")
        forgotten = set(self.forget_ids(split, fold))
        wanted = _chooser(name, forgotten)
        if name.startswith("train"):
            return self._trained(name, split, fold, wanted)
        if name in ("forget", "retain"):
            rows, prefix = self._form_rows(name, split, fold), ""
        elif name in ("test", "retain_heldout"):
            rows, prefix = self._rows("Test_Set"), "test/"
        elif name in ("celebrity", "holdout"):
            rows, prefix = self._rows(CONFIGS.get(name, name)), f"{name}/"
        else:
            return self._flat(name, forgotten)
        samples = []
        for row in rows:
            if wanted(identifier(row, prefix or self.name), row):
                samples += evaluation_samples(row, prefix=prefix, prompts=self.prompts, picture_seed=picture_seed)
        return _numbered(samples)

    def sets(
        self,
        split: str = "forget_5",
        fold: int = 0,
        *,
        names: Iterable[str] | None = None,
        picture_seed: int | None = None,
    ) -> dict[str, list[Sample]]:
        """Several sets by name (see `samples`); by default those of the score table that the data set has."""
        wanted = tuple(names) if names is not None else tuple(n for n in EVALUATED if self.has(n))
        return {name: self.samples(name, split, fold, picture_seed=picture_seed) for name in wanted}

    def has(self, name: str) -> bool:
        """Whether the data set has the config of a set."""
        return name in ("forget", "retain") or CONFIGS.get(name, name) in self.source.configs

    def request(self, split: str = "forget_5", fold: int = 0, *, strangers: Sequence[Sample] = ()) -> Request:
        """The request to forget the people of a split, from the training form and not from scored prompts."""
        forget, retain = (self.samples(name, split, fold) for name in ("train_forget", "train_retain"))
        return Request.from_samples(forget, retain, strangers, names=self.names)

    def _trained(self, name: str, split: str, fold: int, wanted: Callable[[str, Row], bool]) -> list[Sample]:
        retained = self._retain_config(split)
        published = () if fold or name == "train" else (split if name == "train_forget" else retained,)
        samples = []
        for key, row in self._training.rows(published, (split, retained, "Full_Set")):
            if wanted(key, row):
                samples += training_samples(row, about=self._persons.get(key), key=key)
        return _numbered(samples)

    def _flat(self, name: str, forgotten: set[str]) -> list[Sample]:
        config = CONFIGS.get(name, name)
        samples = [
            flat_sample(row, prefix=f"{config}/", number=number)
            for number, row in enumerate(self._rows(config))
            if self._belongs(name, row, forgotten)
        ]
        return [sample for sample in samples if name not in ("restricted", "benign") or sample.attribute == name]

    def _belongs(self, name: str, row: Row, forgotten: set[str]) -> bool:
        key = identifier(row, name)
        if name in ABOUT_FORGOTTEN:
            return key in forgotten or key not in self.people
        if name == "neighbours":
            neighbour = get(row, "neighbour_of", "of")
            return key not in forgotten and (neighbour is None or str(neighbour) in forgotten)
        return not _also_about(row, forgotten)

    def _form_rows(self, name: str, split: str, fold: int) -> Rows:
        config = self._fold_config(split if name == "forget" else self._retain_config(split), fold)
        return self.source.rows(config) if config is not None else self._rows("Full_Set")

    def _fold_config(self, config: str, fold: int) -> str | None:
        """The config with a fold of another one, or None; fold 0 is the config itself."""
        name = f"{config}_fold{fold}" if fold else config
        return name if name in self.source.configs else None

    def _rows(self, config: str) -> Rows:
        if config not in self.source.configs:
            raise InputError(f"{self.name}: has no config {config}; it has {', '.join(self.source.configs)}")
        return self.source.rows(config)

    def _ids(self, config: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(identifier(row, config) for row in self._rows(config)))

    def _people_rows(self) -> Iterator[Row]:
        configs = [c for c in ("Full_Set", *self.splits, "Retain_Set", "holdout") if c in self.source.configs]
        if "Full_Set" not in configs and self.splits:
            configs.append(self._retain_config(self.splits[0]))
        for config in configs:
            yield from self._rows(config)

    def _retain_config(self, split: str) -> str:
        return f"retain_{100 - _percent(split)}"


def _chooser(name: str, forgotten: set[str]) -> Callable[[str, Row], bool]:
    """Whether a set has a row, by its ID and by whom it is also about."""
    if name in ("train", "celebrity", "holdout"):
        return lambda key, row: True
    if name in ("forget", "test", "train_forget"):
        return lambda key, row: key in forgotten
    return lambda key, row: key not in forgotten and not _also_about(row, forgotten)


def _also_about(row: Row, forgotten: set[str]) -> bool:
    return not forgotten.isdisjoint(map(str, get(row, "also_about") or ()))


def _numbered(samples: list[Sample]) -> list[Sample]:
    """The samples with distinct ids, even if a person has several rows."""
    seen: dict[str, int] = {}
    numbered = []
    for sample in samples:
        count = seen[sample.id] = seen.get(sample.id, -1) + 1
        numbered.append(replace(sample, id=f"{sample.id}#{count}") if count else sample)
    return numbered


def _percent(split: str) -> int:
    return int(split.rpartition("_")[2])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(entry)
