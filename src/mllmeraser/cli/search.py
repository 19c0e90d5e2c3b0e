"""`mllmeraser search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Force, Json, Threads


def search(
    space: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="What is tried.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write figures, choices and settings to.")],
    work: Annotated[
        Path, typer.Option("--work", metavar="DIR", help="Folder; candidates finished there are not run again.")
    ] = Path("out/search"),
    force: Force = False,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Search the settings of methods that are trained, on validation people, as many candidates for every method.

    A recipe takes what was found by its key `settings_from`. Every candidate is kept as soon as it is done: stopped
    half-way, the same command goes on where it was. Exit code 1 if no candidate of a method could be made.

    Examples:

        mllmeraser search recipes/search.yaml --out benchmarks/results/search-llava.json
    """
    from mllmeraser import api
    from mllmeraser.cli.errors import fail
    from mllmeraser.cli.runtime import note, prepare, print_json, progress_bar
    from mllmeraser.cli.tables import chosen_line

    api.check_target(out, force=force)
    prepare(api.searched_model(space), threads, 0)
    with progress_bar() as progress:
        summary = api.search(space, out, work=work, force=force, progress=progress)
    if as_json:
        print_json(summary)
    else:
        note(f"{summary['cells']} cells: {summary['ran']} run now")
        for title, chosen in summary["chosen"].items():
            note(chosen_line(title, chosen))
        print(summary["result"])
    for line in summary["failures"]:
        note(f"could not be made: {line}")
    without = [title for title, chosen in summary["chosen"].items() if chosen is None]
    if without:
        raise fail(f"no candidate of {', '.join(without)} could be made: give other settings", 1)
