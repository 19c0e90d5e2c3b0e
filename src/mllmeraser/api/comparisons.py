"""Recipes of comparisons, run and drawn; settings, searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllmeraser.samples.progress import Progress


def first_model(recipe: str | Path, *, quick: bool = False, changes: Sequence[str] = ()) -> str:
    """The model that a recipe begins with."""
    from mllmeraser.comparison.recipe import read_recipe

    return read_recipe(recipe, quick=quick, changes=changes).models[0].name


def compare(
    recipe: str | Path,
    out: Path,
    *,
    quick: bool = False,
    changes: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a recipe into a folder, resuming what is there; returns what came of it (see `comparison.run`)."""
    from mllmeraser.comparison.run import run_recipe

    return run_recipe(recipe, out, quick=quick, changes=changes, force=force, progress=progress).summary()


def searched_model(space: str | Path) -> str:
    """The model that a search space is about."""
    from mllmeraser.comparison.space import read_space

    return read_space(space).model.name


def search(
    space: str | Path, out: Path, *, work: Path, force: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Search settings and write them to a file, resuming in `work`; returns what was chosen (`comparison.search`)."""
    from mllmeraser.comparison.search import run_search

    return run_search(space, out, work=work, force=force, progress=progress).summary()


def exhibit(name: str, out: Path) -> list[str]:
    """Draw one exhibit of a comparison anew from its files; returns what was written."""
    from mllmeraser.comparison.exhibits import draw
    from mllmeraser.comparison.results import read_run

    return [str(file) for file in draw(name, read_run(out), out / "exhibits")]
