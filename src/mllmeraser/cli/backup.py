"""`mllmeraser ledger backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.ledger import DEFAULT_URL, Url, ledger, opened
from mllmeraser.cli.options import Json
from mllmeraser.cli.runtime import show_result
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole


@ledger.command("backup")
def backup(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="New file for the copy.")],
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Copy an SQLite ledger to a file while servers go on. The copy is checked. For PostgreSQL: pg_dump.

    Examples:

        mllmeraser ledger backup --out ledger-2030-01-31.db
    """
    with opened(url) as book:
        book.backup(out)
    head = _sound(out)
    show_result({"path": str(out), "head": head}, as_json, f"{out}: all records unchanged; keep {head}")


@ledger.command("restore")
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `ledger backup`.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="New file for the ledger.")],
    as_json: Json = False,
) -> None:
    """Make an SQLite ledger from a backup, after checking it. An existing file is never replaced.

    Examples:

        mllmeraser ledger restore ledger-2030-01-31.db --out mllmeraser.db
    """
    head = _sound(source)
    write_whole(out, source.read_bytes())
    show_result({"path": str(out), "head": head}, as_json, f"{out}: all records unchanged, {head}")


def _sound(file: Path) -> str:
    """The head of a ledger file; an InputError if it is none, or was changed."""
    with opened(str(file)) as book:
        report = book.verify_chain()
    if not report.ok:
        raise InputError(f"{file}: was changed outside mllmeraser ({report.why})")
    return f"{report.head[0]}:{report.head[1]}"
