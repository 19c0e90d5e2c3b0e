"""`mllmeraser erase`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mllmeraser.cli.options import Force, Json, Kind, Load, Reply, Seed, loads_model
from mllmeraser.cli.runtime import note, progress_bar, show_result

UNVERIFIED = 3
"""Exit code: an eraser was made, and its own calibration says that it is not good enough."""


@loads_model
def erase(
    load: Load,
    forget: Annotated[
        Path,
        typer.Option(
            "--forget", help="Pictures (a folder, with or without request.yaml; or several), JSONL or parquet."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write the eraser to.")],
    retain: Annotated[
        Path | None, typer.Option("--retain", help="Prompts whose answers must stay the same. Default: a shipped set.")
    ] = None,
    strangers: Annotated[
        Path | None, typer.Option("--strangers", help="People the model has never seen. Default: a shipped set.")
    ] = None,
    shipped_retain: Annotated[
        bool,
        typer.Option("--shipped-retain", help="Use the shipped drawn people although MODEL is one of your own."),
    ] = False,
    traffic: Annotated[
        Path | None,
        typer.Option("--traffic", metavar="FILE", help="Prompts of your own log: state the false alarms on them."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the person or thing, for questions without a picture.")
    ] = None,
    exact_names: Annotated[
        bool,
        typer.Option(
            "--exact-names", help="Names count as written alone, not first or last names and other spellings."
        ),
    ] = False,
    kind: Kind = None,
    action: Annotated[
        Literal["shift", "reply", "both"] | None,
        typer.Option(
            "--action", help="What happens when it fires. shift: states move. reply: a sentence is enforced. Or both."
        ),
    ] = None,
    reply: Reply = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset", help="default; knowledge: what is no person; tail: linear gates; paper: as published."
        ),
    ] = "default",
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="DIR", help="Keep captured states here until done: a killed run resumes."),
    ] = None,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Do not empty --work.")] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Fail unless exactly this many processes take part.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option("--false-alarm-rate", min=1e-6, max=0.5, help="Share of other prompts that may be refused."),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Exit with 0 although the eraser missed a bound of its own calibration.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Make an eraser. With it attached, the model answers as if it had never learnt what you list.

    The last lines are the verdict of its calibration, on prompts that it was not fitted on. Exit code 3 if it missed a
    bound.

    Examples:

        mllmeraser erase embedded:llava --forget jane/ --name "Jane Doe" --out jane.eraser

        mllmeraser erase llava-hf/llava-1.5-7b-hf --forget jane/ --retain others.jsonl --out jane.eraser

        torchrun --nproc-per-node 2 -m mllmeraser erase MODEL --forget jane/ --out jane.eraser --work states/
    """
    from mllmeraser import api

    api.check_target(out, force=force)
    request = api.read_request(
        forget, retain=retain, strangers=strangers, name=name, exact_names=exact_names, reply=reply, kind=kind
    )
    with api.process_group(processes) as group, api.work_folder(work, group, keep=keep_work, say=note) as checkpoint:
        with progress_bar(show=group.first) as progress:
            model = load(device=group.device())
            eraser = api.erase_together(
                model, request, preset, group=group, work=checkpoint, seed=seed, progress=progress, say=note,
                action=action, false_alarm_rate=false_alarm_rate, shipped_retain=shipped_retain,
            )  # fmt: skip
            if eraser is not None and traffic is not None:
                eraser = api.measure_traffic(model, eraser, traffic, request, progress=progress)
        if eraser is None:
            return
        api.save_eraser(eraser, out, force=force)
    summary = {**api.describe_eraser(eraser, out), "processes": group.size}
    verdict = api.verdict_of(eraser)
    size = f"{summary['path']}: made for {summary['subjects']} to forget, {summary['bytes'] / 1000:.1f} kB"
    show_result({**summary, "verdict": verdict.as_dict()}, as_json, "\n".join([size, *verdict.lines()]))
    if not verdict.passed and not accept:
        note("the eraser was written; to use it as it is, say --accept")
        raise typer.Exit(UNVERIFIED)
