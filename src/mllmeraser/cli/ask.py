"""`mllmeraser ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.options import Erasers, Json, Load, Seed, loads_model
from mllmeraser.cli.runtime import note, show_result


@loads_model
def ask(
    load: Load,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.", show_default=False)],
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Picture to ask about.")] = None,
    eraser: Erasers = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 32,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Ask a model one question. With erasers: also show the score of each gate and whether it acted.

    Examples:

        mllmeraser ask embedded:llava "Where does this person live?" --image jane.png

        mllmeraser ask embedded:llava "Who is this?" --image jane.png --eraser jane.eraser --json
    """
    from mllmeraser import api

    answer = api.ask(load(), question, image=image, erasers=eraser or (), max_new_tokens=max_new_tokens)
    show_result(answer.as_dict(), as_json, answer.answer)
    for reading in answer.readings if not as_json else ():
        note(reading.line())
