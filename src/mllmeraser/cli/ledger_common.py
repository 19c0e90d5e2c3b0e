"""What the commands about a ledger share: where it is, who asks, how it is opened, how results are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mllmeraser.serving.ledger import Ledger

Url = Annotated[
    str,
    typer.Option(
        "--ledger",
        metavar="URL",
        envvar="MLLMERASER_LEDGER",
        help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE.",
    ),
]
TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}\+00:00$")
DEFAULT_URL = "sqlite:///mllmeraser.db"
By = Annotated[
    str | None, typer.Option("--by", help="Who does this, for the record. Default: your login.", show_default=False)
]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Whose it is. Default: everybody's.", show_default=False)]


@contextmanager
def installed() -> Iterator[None]:
    """Around imports of the service: a missing package is one line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        from mllmeraser.samples.errors import InputError

        raise InputError(f"the ledger needs {error.name}, which is missing: pip install 'mllmeraser[serve]'") from error


@contextmanager
def opened(url: str, *, create: bool = False) -> Iterator[Ledger]:
    """The ledger at `url`, closed when the block ends; made only if `create` says so."""
    with installed():
        from mllmeraser.serving.ledger import Ledger
    with Ledger.open(url, create=create) as book:
        yield book


def who(by: str | None) -> str:
    """Who asks: as told, or the login."""
    if by is not None:
        return by
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody at the command line"


def tell(record: Mapping[str, Any], as_json: bool) -> None:
    """One record: JSON, or a line per fact that there is."""
    from mllmeraser.cli.runtime import print_json

    if as_json:
        print_json(record)
        return
    for key, value in record.items():
        if value not in (None, {}, []):
            print(f"{key.replace('_', ' ')}: {_cell(value)}")


def table(records: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Many records: JSON, or a line per record."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mllmeraser.cli.runtime import print_json

    if as_json:
        print_json(list(records))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for record in records:
        table.add_row(*(Text(_cell(record[column])) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    import json

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return TIME.sub(r"\1Z", value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
