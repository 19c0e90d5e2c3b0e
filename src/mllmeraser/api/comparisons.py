"""Run the recipe of a comparison, redraw an exhibit, search settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.samples.progress import Progress


def first_model(recipe: str | Path, *, quick: bool = False, changes: Sequence[str] = ()) -> str:
    """Name of a recipe's first model."""
    from mllmeraser.comparison.recipe import read_recipe

    return read_recipe(recipe, quick=quick, changes=changes).models[0].name


def compare(recipe: str | Path, out: Path, *, progress: Progress | None = None, **options: Any) -> dict[str, Any]:
    """Run a recipe into a folder, or resume it there, and return a summary. For `options` see `comparison.run`."""
    from mllmeraser.comparison.run import run_recipe

    return run_recipe(recipe, out, progress=progress, **options).summary()


def searched_model(space: str | Path) -> str:
    """Name of a search space's model."""
    from mllmeraser.comparison.space import read_space

    return read_space(space).model.name


def search(space: str | Path, out: Path, *, progress: Progress | None = None, **options: Any) -> dict[str, Any]:
    """Search settings, write them to a file, and return the choices. For `options` see `comparison.search`."""
    from mllmeraser.comparison.search import run_search

    return run_search(space, out, progress=progress, **options).summary()


def exhibit(name: str, out: Path) -> list[str]:
    """Redraw one exhibit of a comparison from its files and return the paths written."""
    from mllmeraser.comparison.exhibits import draw
    from mllmeraser.comparison.results import read_run

    return [str(file) for file in draw(name, read_run(out), out / "exhibits")]
