"""Loading a benchmark by name, folder or hub id."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.mllmu import Prompts
from mllmeraser.benchmarks.rows import ParquetRows, RowSource, hub_rows
from mllmeraser.samples.errors import InputError

Loader = Callable[[str, int], RowSource]
_LOADERS: dict[str, Loader] = {}
TRAINING_SIBLING = "baseline_train_split"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def register_benchmark(name: str, loader: Loader) -> None:
    """Make `load_benchmark("<name>:<preset>")` call `loader(preset, seed)`."""
    _LOADERS[name] = loader


def load_benchmark(
    name: str, *, seed: int = 0, prompts: Prompts | None = None, training: str | None = None
) -> Benchmark:
    """Load a benchmark.

    Args:
        name: `"portraits:<preset>"`, a folder in the layout of MLLMU-Bench, or the hub id of such a data set
            (`"MLLMMU/MLLMU-Bench"`, optionally with `@revision`).
        seed: Seed of a generated benchmark.
        prompts: See `Benchmark`.
        training: Folder or hub id of the training form by split (`"MLLMMU/baseline_train_split"`); None: a folder
            `baseline_train_split` in or beside the folder of the data set, if there is one.

    Raises:
        InputError: No such benchmark.
    """
    trained = None if training is None else _rows(training)
    kind, colon, preset = name.partition(":")
    if colon and kind in _LOADERS:
        return Benchmark(name, _LOADERS[kind](preset, seed), prompts=prompts or "plain", training=trained)
    rows, folder = _rows(name), Path(name)
    if not folder.is_dir():
        return Benchmark(name.partition("@")[0], rows, prompts=prompts, training=trained)
    return Benchmark(folder.resolve().name, rows, prompts=prompts, training=trained or _sibling(folder))


def _rows(name: str) -> RowSource:
    folder = Path(name)
    if name and folder.is_dir():
        return ParquetRows(folder)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        repository, _, revision = name.partition("@")
        return hub_rows(repository, revision or None)
    known = ", ".join(f"{kind}:<preset>" for kind in sorted(_LOADERS))
    raise InputError(f"{name!r}: no such benchmark; give {known}, a folder, or the hub id of a data set")


def _sibling(folder: Path) -> RowSource | None:
    root = folder.resolve()
    places = (root / TRAINING_SIBLING, root.parent / TRAINING_SIBLING)
    return next((ParquetRows(place) for place in places if place != root and place.is_dir()), None)


@lru_cache(maxsize=2)
def _portraits(preset: str, seed: int) -> RowSource:
    # Cached, because the generator draws the pictures of each config.
    from mllmeraser.portraits import SIZES, Configs, World

    if preset not in SIZES:
        raise InputError(f"portraits:{preset}: no such preset; there are {', '.join(SIZES)}")
    return Configs(World(preset, seed))  # type: ignore[arg-type]


@lru_cache(maxsize=4)
def _knowledge(preset: str, seed: int) -> RowSource:
    from mllmeraser.knowledge.rows import PRESETS, Knowledge
    from mllmeraser.knowledge.scene_rows import SceneRows

    if preset not in PRESETS:
        raise InputError(f"knowledge:{preset}: no such preset; there are {', '.join(PRESETS)}")
    return SceneRows(seed) if preset == "concepts" else Knowledge(preset, seed)


register_benchmark("portraits", _portraits)
register_benchmark("knowledge", _knowledge)
