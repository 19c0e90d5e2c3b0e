"""`mllmeraser erase`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.loading import Load, loads_model
from mllmeraser.cli.options import Force, Json, Model, Seed, Threads


@loads_model
def erase(
    load: Load,
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
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            help="Folder for captured states: a run that was killed goes on from there. Emptied in the end.",
        ),
    ] = None,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep what is in --work.")] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Fail unless exactly so many take part.", show_default=False),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Make an eraser: the model, with it attached, answers as if it had never learnt this.

    Examples:

        mllmeraser erase embedded:llava --forget jane/ --name "Jane Doe" --out jane.eraser

        mllmeraser erase llava-hf/llava-1.5-7b-hf --forget jane/ --retain others.jsonl --out jane.eraser

        torchrun --nproc-per-node 2 -m mllmeraser erase MODEL --forget jane/ --out jane.eraser --work states/
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import note, prepare, print_json, progress_bar

    api.check_target(out, force=force)
    request = api.read_request(forget, retain=retain, strangers=strangers, name=name)
    prepare(model, threads, seed)
    with api.process_group(processes) as team, api.work_folder(work, team, keep=keep_work, say=note) as checkpoint:
        with progress_bar(show=team.first) as progress:
            eraser = api.erase_together(
                load(model, device=team.device()),
                request,
                preset,
                team=team,
                work=checkpoint,
                seed=seed,
                progress=progress,
                say=note,
            )
        if eraser is None:
            return
        api.save_eraser(eraser, out, force=force)
    summary = {**api.describe_eraser(eraser, out), "processes": team.size}
    if as_json:
        print_json(summary)
    else:
        print(f"{summary['path']}: {summary['subjects']} forgotten, {summary['bytes'] / 1000:.1f} kB")
