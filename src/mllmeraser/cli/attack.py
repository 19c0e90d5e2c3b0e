"""`mllmeraser attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Erasers, Force, Json, Load, Seed, loads_model
from mllmeraser.cli.runtime import progress_bar, show_result
from mllmeraser.cli.tables import attack_table


@loads_model
def attack(
    load: Load,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write the records to.")],
    benchmark: Annotated[
        str, typer.Option("--benchmark", help="portraits:dev, or a folder or hub id in the schema of MLLMU-Bench.")
    ] = "portraits:dev",
    split: Annotated[str, typer.Option("--split", help="The people that the eraser is for.")] = "forget_5",
    fold: Annotated[int, typer.Option("--fold", min=0, help="Which people the split takes.")] = 0,
    eraser: Erasers = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes: fewer questions, tries and tokens.")] = False,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Try to bring back what an eraser forgets: other contexts and spellings, begun, sampled and long answers.

    A leak is a fact that the bare model tells under an attack and the erased model tells too.

    Examples:

        mllmeraser attack embedded:llava --eraser people.eraser --quick --out attacks.json

        mllmeraser attack MLLMMU/LLaVA_Vanilla --eraser people.eraser --benchmark MLLMMU/MLLMU-Bench --out attacks.json
    """
    from mllmeraser import api

    api.check_target(out, force=force)
    with progress_bar() as progress:
        rows = api.attack(
            load(), benchmark, out, split=split, fold=fold, erasers=eraser or (), quick=quick, seed=seed, force=force,
            progress=progress,
        )  # fmt: skip
    show_result(rows, as_json, attack_table(rows))
