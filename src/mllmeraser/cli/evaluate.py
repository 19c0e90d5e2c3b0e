"""`mllmeraser evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.loading import Load, loads_model
from mllmeraser.cli.options import Erasers, Force, Json, Model, Seed, Threads


@loads_model
def evaluate(
    load: Load,
    model: Model,
    benchmark: Annotated[
        str,
        typer.Option("--benchmark", help="portraits:dev, or a folder or hub id in the schema of MLLMU-Bench."),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write the records to.")],
    split: Annotated[str, typer.Option("--split", help="forget_5, forget_10 or forget_15.")] = "forget_5",
    fold: Annotated[int, typer.Option("--fold", min=0, help="Which people the split takes.")] = 0,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Only this set (forget, test, retain, ...); may be given several times."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most this many samples of each set.")] = None,
    eraser: Erasers = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="portraits, strict, official (as MLLMU-Bench, few-shot) or official-zero-shot. "
            "Default: portraits for that benchmark, strict for others.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Score a model, with or without erasers: accuracy with 95 % intervals, and how each answer ended.

    Examples:

        mllmeraser evaluate embedded:llava --benchmark portraits:dev --out vanilla.json

        mllmeraser evaluate embedded:llava --benchmark portraits:dev --eraser jane.eraser --out scores.json

        mllmeraser evaluate MLLMMU/LLaVA_Vanilla --benchmark MLLMMU/MLLMU-Bench --protocol official --out official.json
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import prepare, print_json, progress_bar
    from mllmeraser.cli.tables import print_scores

    api.check_target(out, force=force)
    prepare(model, threads, seed)
    with progress_bar() as progress:
        records = api.evaluate(
            load(model),
            benchmark,
            split=split,
            fold=fold,
            sets=sets,
            limit=limit,
            erasers=eraser or (),
            protocol=protocol,
            seed=seed,
            progress=progress,
        )
    rows = api.write_records(records, out, force=force)
    if as_json:
        print_json(rows)
    else:
        print_scores(rows)
