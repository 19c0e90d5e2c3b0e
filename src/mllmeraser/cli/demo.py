"""`mllmeraser demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Force, Json, Seed, Threads
from mllmeraser.cli.runtime import note, prepare, progress_bar, show_result


def demo(
    model: Annotated[str, typer.Option("--model", help="An embedded model.")] = "embedded:llava",
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for report.html, scores.json and eraser/.")
    ] = Path("out/demo"),
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Forget people on a shipped model. Score it before, with the eraser, and after detaching it.

    Examples:

        mllmeraser demo

        mllmeraser demo --out /tmp/demo --seed 1
    """
    from mllmeraser import api

    api.check_target(out, force=force)
    prepare(model, threads, seed)
    with progress_bar() as progress:
        summary = api.demo(model, out, seed=seed, force=force, progress=progress)
    for line in summary["lines"] if not as_json else ():
        note(line)
    show_result(summary, as_json, summary["report"])
