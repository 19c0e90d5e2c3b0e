"""`mllmeraser models list` and `mllmeraser models check`."""

from __future__ import annotations

from typing import Annotated

import typer

from mllmeraser.cli.options import Json, Load, Seed, loads_model
from mllmeraser.cli.runtime import show_result
from mllmeraser.cli.tables import check_table, family_table

models = typer.Typer(no_args_is_help=True, help="List the supported model families, or test one model.")


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """List the supported model families.

    Examples:

        mllmeraser models list --json
    """
    from mllmeraser import api

    families = api.list_families()
    show_result(families, as_json, family_table(families))


@models.command("check")
@loads_model
def check_model(
    load: Load,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Also test with pictures: every layer, both padding sides, mixed batches, cached decoding. "
            "Takes three passes per layer.",
        ),
    ] = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Load a model and test that erasers attach to it and detach without a trace. Exit code 1 if not.

    Examples:

        mllmeraser models check embedded:llava

        mllmeraser models check MODEL --thorough
    """
    from mllmeraser import api

    check = api.check_model(load(), thorough=thorough)
    show_result(check, as_json, check_table(check))
    if not check["ok"]:
        raise typer.Exit(1)
