"""`mllmeraser models list` and `mllmeraser models check`."""

from __future__ import annotations

from typing import Annotated

import typer

from mllmeraser.cli.loading import Load, loads_model
from mllmeraser.cli.options import Json, Model, Seed, Threads

models = typer.Typer(no_args_is_help=True, help="Which models this works with, and whether one really does.")


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """The model families that have an adapter.

    Examples:

        mllmeraser models list --json
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import print_json
    from mllmeraser.cli.tables import print_families

    families = api.list_families()
    if as_json:
        print_json(families)
    else:
        print_families(families)


@models.command("check")
@loads_model
def check_model(
    load: Load,
    model: Model,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Also with pictures: every layer, both padding sides, mixed batches, cached decoding. "
            "Three passes for each layer.",
        ),
    ] = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Load a model and test that erasers can be attached to it and detached without a trace.

    Examples:

        mllmeraser models check embedded:llava

        mllmeraser models check MODEL --thorough
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import prepare, print_json
    from mllmeraser.cli.tables import print_check

    prepare(model, threads, seed)
    check = api.check_model(load(model), thorough=thorough)
    if as_json:
        print_json(check)
    else:
        print_check(check)
    if not check["ok"]:
        raise typer.Exit(1)
