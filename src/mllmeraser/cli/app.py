"""The typer application: the commands and how their errors are shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mllmeraser.cli.ask import ask
from mllmeraser.cli.certificate import certificate
from mllmeraser.cli.compare import compare
from mllmeraser.cli.demo import demo
from mllmeraser.cli.erase import erase
from mllmeraser.cli.errors import OneLineErrors
from mllmeraser.cli.evaluate import evaluate
from mllmeraser.cli.exhibit import exhibit
from mllmeraser.cli.gradio import gradio
from mllmeraser.cli.ledger import ledger
from mllmeraser.cli.models import models
from mllmeraser.cli.search import search
from mllmeraser.cli.serve import serve
from mllmeraser.version import __version__

app = typer.Typer(
    name="mllmeraser",
    cls=OneLineErrors,
    no_args_is_help=True,
    rich_markup_mode="rich",
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

    MODEL is [bold]embedded:llava[/bold], [bold]embedded:qwen2.5-vl[/bold], a hub id, or a folder. Bad input is one
    line on standard error and exit code 2.
    """


for command in (demo, erase, ask, evaluate, compare, search, exhibit, serve, gradio):
    app.command()(command)
app.add_typer(models, name="models")
app.add_typer(ledger, name="ledger")
app.add_typer(certificate, name="certificate")
