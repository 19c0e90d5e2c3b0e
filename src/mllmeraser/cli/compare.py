"""`mllmeraser compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Json, Threads


def compare(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What is compared.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder; cells finished there are not run again.")],
    quick: Annotated[bool, typer.Option("--quick", help="Minutes: the recipe's own smaller samples.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value (YAML) for a key of the recipe; repeatable."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Give scores even where the model knew too little of what it is to forget.")
    ] = False,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Compare methods side by side: scores, tables and figures from one recipe.

    Every cell (a method on a model, split, fold and seed) is kept as soon as it is done: stopped half-way, the same
    command goes on where it was. Exit code 1 if a cell failed or scores are refused.

    Examples:

        mllmeraser compare recipes/quick.yaml --out out/quick --quick

        mllmeraser compare recipes/paper-table.yaml --out out/paper-table

        mllmeraser compare recipes/mllmu-llava-1.5-7b.yaml --out out/7b --set benchmark=/data/MLLMU-Bench
    """
    from mllmeraser import api
    from mllmeraser.cli.errors import fail
    from mllmeraser.cli.runtime import note, prepare, print_json, progress_bar

    prepare(api.first_model(recipe, quick=quick, changes=changes or ()), threads, 0)
    with progress_bar() as progress:
        summary = api.compare(recipe, out, quick=quick, changes=changes or (), force=force, progress=progress)
    if as_json:
        print_json(summary)
    else:
        note(f"{summary['cells']} cells: {summary['ran']} run now, {summary['missing']} without anything to measure")
        for line in summary["gate"]:
            note(line)
        print(summary["report"])
    for line in summary["failures"]:
        note(f"failed: {line}")
    for line in summary["refusals"]:
        note(f"refused: {line}")
    if summary["failures"] or summary["refusals"]:
        failed, refused = len(summary["failures"]), len(summary["refusals"])
        raise fail(f"{failed} cell(s) failed, scores of {refused} model(s) and split(s) are refused", 1)
