"""The typer application: the commands and how their errors are shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mllmeraser.cli import backup as backup
from mllmeraser.cli.ask import ask
from mllmeraser.cli.attack import attack
from mllmeraser.cli.certificate import certificate
from mllmeraser.cli.compare import compare, exhibit, search
from mllmeraser.cli.demo import demo
from mllmeraser.cli.erase import erase
from mllmeraser.cli.errors import OneLineErrors
from mllmeraser.cli.evaluate import evaluate
from mllmeraser.cli.example import example
from mllmeraser.cli.ledger import ledger
from mllmeraser.cli.models import models
from mllmeraser.cli.request import request
from mllmeraser.cli.serve import gradio, serve
from mllmeraser.version import __version__

app = typer.Typer(
    name="mllmeraser",
    cls=OneLineErrors,
    no_args_is_help=True,
    rich_markup_mode="markdown",  # keeps square brackets, as in mllmeraser[serve]
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> Any:
    if asked:
        print(f"mllmeraser {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Make a frozen multimodal model answer as if it had never learnt something.

    MODEL is embedded:llava, embedded:qwen2.5-vl, a hub id, or a folder. Bad input gives one line on standard error
    and exit code 2. Start here: mllmeraser demo
    """


for command in (demo, example, erase, request, ask, evaluate, attack, compare, search, exhibit, serve, gradio):
    app.command()(command)
app.add_typer(models, name="models")
app.add_typer(ledger, name="ledger")
app.add_typer(certificate, name="certificate")
