"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="embedded:llava, embedded:qwen2.5-vl, a hub id, or a folder.", show_default=False
    ),
]
Erasers = Annotated[
    list[Path] | None,
    typer.Option("--eraser", metavar="DIR", help="An eraser to attach; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs on standard output.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of torch. Default: one per physical core, at most 2 for embedded models.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what stands at --out.")]
