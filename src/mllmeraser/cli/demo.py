"""`mllmeraser demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Force, Json, Seed, Threads


def demo(
    model: Annotated[str, typer.Option("--model", help="An embedded model.")] = "embedded:llava",
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html, scores.json and eraser/.")] = Path(
        "out/demo"
    ),
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Forget people on the model that ships with the package; show before, after, and after detach.

    Examples:

        mllmeraser demo

        mllmeraser demo --out /tmp/demo --seed 1
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import note, prepare, print_json, progress_bar

    api.check_target(out, force=force)
    prepare(model, threads, seed)
    with progress_bar() as progress:
        summary = api.demo(model, out, seed=seed, force=force, progress=progress)
    if as_json:
        print_json(summary)
        return
    for line in summary["lines"]:
        note(line)
    print(summary["report"])
