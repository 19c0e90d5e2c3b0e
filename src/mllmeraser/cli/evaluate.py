"""`mllmeraser evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mllmeraser.cli.errors import fail
from mllmeraser.cli.options import Erasers, Force, Json, Load, Seed, loads_model
from mllmeraser.cli.runtime import progress_bar, show_result
from mllmeraser.cli.tables import score_table


@loads_model
def evaluate(
    load: Load,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write the scores to.")],
    benchmark: Annotated[
        str | None,
        typer.Option("--benchmark", help="portraits:dev, or a folder or hub id in the schema of MLLMU-Bench."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FILE", help="Instead: samples of your own with answers, a set each."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="forget_5, forget_10 or forget_15.")] = "forget_5",
    fold: Annotated[int, typer.Option("--fold", min=0, help="Which people the split takes.")] = 0,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Only this set (forget, test, retain, ...); repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most this many samples of each set, modality and task.")
    ] = None,
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
) -> None:
    """Score a model, with or without erasers: accuracy with 95 % intervals, and counts of each outcome.

    Examples:

        mllmeraser evaluate embedded:llava --benchmark portraits:dev --out vanilla.json

        mllmeraser evaluate embedded:llava --benchmark portraits:dev --eraser jane.eraser --out scores.json

        mllmeraser evaluate embedded:llava --data facts.jsonl --eraser jane.eraser --out scores.json

        mllmeraser evaluate MLLMMU/LLaVA_Vanilla --benchmark MLLMMU/MLLMU-Bench --protocol official --out official.json
    """
    from mllmeraser import api

    if (benchmark is None) == (not data):
        raise fail("give --benchmark, or samples of your own with --data", 2)
    api.check_target(out, force=force)
    with progress_bar() as progress:
        same: dict[str, Any] = {
            "limit": limit, "erasers": eraser or (), "protocol": protocol, "seed": seed, "progress": progress,
        }  # fmt: skip
        if benchmark is None:
            records = api.evaluate_samples(load(), data or (), **same)
        else:
            records = api.evaluate(load(), benchmark, split=split, fold=fold, sets=sets, **same)
    rows = api.write_records(records, out, force=force)
    show_result(rows, as_json, score_table(rows))
