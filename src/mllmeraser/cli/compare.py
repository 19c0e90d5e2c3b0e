"""`mllmeraser compare`, `search` and `exhibit`: methods side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.errors import fail
from mllmeraser.cli.options import Force, Json, Threads
from mllmeraser.cli.runtime import note, prepare, progress_bar, show_result
from mllmeraser.cli.tables import chosen_line


def compare(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to compare.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for results; finished cells are kept.")],
    quick: Annotated[bool, typer.Option("--quick", help="Take minutes: use the recipe's own smaller samples.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace the value (YAML) of a recipe key; repeatable."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Give scores even where the model knew too little of what it must forget.")
    ] = False,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Compare methods side by side: scores, tables and figures from one recipe.

    A cell is one method on one model, split, fold and seed. Each is saved when done, so the same command resumes a
    stopped run. Exit code 1 if a cell failed or scores are refused.

    Examples:

        mllmeraser compare recipes/quick.yaml --out out/quick --quick

        mllmeraser compare recipes/paper-table.yaml --out out/paper-table

        mllmeraser compare recipes/mllmu-llava-1.5-7b.yaml --out out/7b --set benchmark=/data/MLLMU-Bench
    """
    from mllmeraser import api

    prepare(api.first_model(recipe, quick=quick, changes=changes or ()), threads, 0)
    with progress_bar() as progress:
        summary = api.compare(recipe, out, quick=quick, changes=changes or (), force=force, progress=progress)
    if not as_json:
        note(f"{summary['cells']} cells: {summary['ran']} run now, {summary['missing']} without anything to measure")
        for line in summary["gate"]:
            note(line)
    show_result(summary, as_json, summary["report"])
    for kind, lines in (("failed", summary["failures"]), ("refused", summary["refusals"])):
        for line in lines:
            note(f"{kind}: {line}")
    if summary["failures"] or summary["refusals"]:
        failed, refused = len(summary["failures"]), len(summary["refusals"])
        raise fail(f"{failed} cell(s) failed, scores of {refused} model(s) and split(s) are refused", 1)


def search(
    space: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="What to try.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File for figures, choices and settings.")],
    work: Annotated[
        Path, typer.Option("--work", metavar="DIR", help="Folder for candidates; finished ones are kept.")
    ] = Path("out/search"),
    force: Force = False,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Search the settings of trained methods on validation people, with as many candidates for each method.

    A recipe uses the result under its key `settings_from`. Each candidate is saved when done, so the same command
    resumes a stopped run. Exit code 1 if every candidate of a method failed.

    Examples:

        mllmeraser search recipes/search.yaml --out benchmarks/results/search-llava.json
    """
    from mllmeraser import api

    api.check_target(out, force=force)
    prepare(api.searched_model(space), threads, 0)
    with progress_bar() as progress:
        summary = api.search(space, out, work=work, force=force, progress=progress)
    if not as_json:
        note(f"{summary['cells']} cells: {summary['ran']} run now")
        for title, chosen in summary["chosen"].items():
            note(chosen_line(title, chosen))
    show_result(summary, as_json, summary["result"])
    for line in summary["failures"]:
        note(f"could not be made: {line}")
    without = [title for title, chosen in summary["chosen"].items() if chosen is None]
    if without:
        raise fail(f"no candidate of {', '.join(without)} could be made: give other settings", 1)


def exhibit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="main-table, trade-off, outcomes, time or activations.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a comparison.")],
    as_json: Json = False,
) -> None:
    """Redraw one table or figure of a comparison from its files. It needs no model; `compare` draws them all.

    Examples:

        mllmeraser exhibit trade-off out/paper-table
    """
    from mllmeraser import api

    written = api.exhibit(name, folder)
    show_result(written, as_json, "\n".join(written))
