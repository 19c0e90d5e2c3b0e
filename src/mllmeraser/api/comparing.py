"""Recipes of comparisons, run and drawn."""

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


def exhibit(name: str, out: Path) -> list[str]:
    """Draw one exhibit of a comparison anew from its files; returns what was written."""
    from mllmeraser.comparison.exhibits import draw
    from mllmeraser.comparison.results import read_run

    return [str(file) for file in draw(name, read_run(out), out / "exhibits")]
