"""`mllmeraser ask`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.loading import Load, loads_model
from mllmeraser.cli.options import Erasers, Json, Model, Seed, Threads


@loads_model
def ask(
    load: Load,
    model: Model,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.", show_default=False)],
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Picture asked about.")] = None,
    eraser: Erasers = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 32,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """One answer, and what the gate of each eraser read.

    Examples:

        mllmeraser ask embedded:llava "Where does this person live?" --image jane.png

        mllmeraser ask embedded:llava "Who is this?" --image jane.png --eraser jane.eraser --json
    """
    from mllmeraser import api
    from mllmeraser.cli.runtime import note, prepare, print_json

    prepare(model, threads, seed)
    answer = api.ask(load(model), question, image=image, erasers=eraser or (), max_new_tokens=max_new_tokens)
    if as_json:
        print_json(answer.as_dict())
        return
    print(answer.answer)
    for reading in answer.readings:
        note(reading.line())
