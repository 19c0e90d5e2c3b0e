"""`mllmeraser gradio`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer


def gradio(
    key: Annotated[
        str,
        typer.Option(
            "--key",
            envvar="MLLMERASER_API_KEY",
            help="API key of the server; better given by the variable.",
            show_default=False,
        ),
    ],
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="A running mllmeraser serve.")
    ] = "http://127.0.0.1:8000",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the page.")] = 7860,
) -> None:
    """A Gradio page for a running server: a conversation about a picture; before and after with an admin's key.

    Whoever opens the page asks with this key, so it listens on this machine alone. Needs the extra demo:
    pip install 'mllmeraser[demo]', best in an environment of its own.

    Examples:

        MLLMERASER_API_KEY=mk_... mllmeraser gradio --server http://127.0.0.1:8000
    """
    from mllmeraser.cli.errors import fail

    if find_spec("gradio") is None:
        raise fail("gradio is missing: pip install 'mllmeraser[demo]', best in an environment of its own", 2)
    from mllmeraser.serving.gradio_demo import Client, build, launch

    launch(build(Client(server, key)), port)
