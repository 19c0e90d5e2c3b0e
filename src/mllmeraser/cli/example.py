"""`mllmeraser example`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Json
from mllmeraser.cli.runtime import show_result


def example(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a request to try things with: pictures of a person whom the embedded models know, and request.yaml.

    Examples:

        mllmeraser example jane

        mllmeraser erase embedded:llava --forget jane/ --out jane.eraser
    """
    from mllmeraser import api

    made = api.example(folder)
    show_result(
        made,
        as_json,
        f"{folder}: {made['pictures']} pictures of {made['name']}. Try this:\n"
        + "\n".join(f"  {line}" for line in made["try"]),
    )
