"""`mllmeraser exhibit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Json


def exhibit(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="main-table, trade-off, outcomes, time or activations.", show_default=False
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a comparison.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Draw one table or figure of a comparison from its files, without any model; `compare` draws all of them.

    Examples:

        mllmeraser exhibit trade-off out/paper-table
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import print_json

    written = api.exhibit(name, folder)
    if as_json:
        print_json(written)
    else:
        print("\n".join(written))
