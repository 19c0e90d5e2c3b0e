"""`mllmeraser erase`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Force, Json, Model, Seed, Threads


def erase(
    model: Model,
    forget: Annotated[
        Path,
        typer.Option(
            "--forget",
            help="Folder of pictures (with request.yaml, if wanted), of such folders, JSONL or parquet.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the eraser to.")],
    retain: Annotated[Path | None, typer.Option("--retain", help="What must not move. Default: a shipped set.")] = None,
    strangers: Annotated[
        Path | None,
        typer.Option("--strangers", help="People the model has never seen. Default: a shipped set."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the person, for the questions without a picture.")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="default, or paper (as published).")] = "default",
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Make an eraser: the model, with it attached, answers as if it had never learnt this.

    Examples:

        mllmeraser erase embedded:llava --forget jane/ --name "Jane Doe" --out jane.eraser

        mllmeraser erase llava-hf/llava-1.5-7b-hf --forget jane/ --retain others.jsonl --out jane.eraser
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import note, prepare, print_json, progress_bar

    api.check_target(out, force=force)
    request = api.read_request(forget, retain=retain, strangers=strangers, name=name)
    prepare(model, threads, seed)
    with progress_bar() as progress:
        eraser = api.erase(model, request, preset=preset, seed=seed, progress=progress, say=note)
    api.save_eraser(eraser, out, force=force)
    summary = api.describe_eraser(eraser, out)
    if as_json:
        print_json(summary)
    else:
        print(f"{summary['path']}: {summary['subjects']} forgotten, {summary['bytes'] / 1000:.1f} kB")
