"""Finding a benchmark by name, folder or hub id."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.mllmu import Prompts
from mllmeraser.benchmarks.rows import ParquetRows, RowSource, hub_rows
from mllmeraser.samples.errors import InputError

if TYPE_CHECKING:
    pass

Loader = Callable[[str, int], RowSource]
_LOADERS: dict[str, Loader] = {}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def register_benchmark(name: str, loader: Loader) -> None:
    """Make `load_benchmark("<name>:<preset>")` call `loader(preset, seed)`."""
    _LOADERS[name] = loader


def benchmark_names() -> tuple[str, ...]:
    """Names that `load_benchmark` knows, before the colon."""
    return tuple(sorted(_LOADERS))


def load_benchmark(name: str, *, seed: int = 0, prompts: Prompts | None = None) -> Benchmark:
    """Load a benchmark.

    Args:
        name: `"portraits:<preset>"`, a folder in the layout of MLLMU-Bench, or the id of such a data set on
            the hub (`"MLLMMU/MLLMU-Bench"`, with `@revision` if wanted).
        seed: Of a generated benchmark.
        prompts: See `Benchmark`.

    Raises:
        InputError: No such benchmark.
    """
    kind, colon, preset = name.partition(":")
    if colon and kind in _LOADERS:
        return Benchmark(name, _LOADERS[kind](preset, seed), prompts=prompts)
    folder = Path(name)
    if name and folder.is_dir():
        return Benchmark(folder.resolve().name, ParquetRows(folder), prompts=prompts)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        repository, _, revision = name.partition("@")
        return Benchmark(repository, hub_rows(repository, revision or None), prompts=prompts)
    known = ", ".join(f"{kind}:<preset>" for kind in benchmark_names())
    raise InputError(f"{name!r}: no such benchmark; give {known}, a folder, or the hub id of a data set")


@lru_cache(maxsize=2)
def _portraits(preset: str, seed: int) -> RowSource:
    # The generator draws pictures: each config once for all sets of a run.
    from mllmeraser.portraits import SIZES, Configs, World

    if preset not in SIZES:
        raise InputError(f"portraits:{preset}: no such preset; there are {', '.join(SIZES)}")
    return Configs(World(preset, seed))  # type: ignore[arg-type]


register_benchmark("portraits", _portraits)
