"""`mllmeraser ledger ...`: the record of erasures, by hand."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllmeraser.cli.errors import needs_extra
from mllmeraser.cli.options import Command, Json, add_options
from mllmeraser.cli.runtime import note, show_result
from mllmeraser.cli.tables import record_lines, record_table

if TYPE_CHECKING:
    from mllmeraser.serving.ledger import Ledger

ledger = typer.Typer(no_args_is_help=True, help="The record of erasures: which are in force, since when, by whom.")
keys = typer.Typer(no_args_is_help=True, help="API keys of the service: make, list and revoke them.")
ledger.add_typer(keys, name="keys")

ENTRY = ("name", "kinds", "state", "tenant", "default", "passed", "starts_at", "expires_at", "id")
EVENT = ("seq", "at", "by", "action", "version", "details")
KEY = ("id", "label", "scope", "tenant", "created_at", "created_by", "revoked_at")
SERVER = ("server", "version", "ready", "seen_at")
DEFAULT_URL = "sqlite:///mllmeraser.db"
URL_HELP = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE."


def login() -> str:
    """The name to record where --by is missing."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody at the command line"


Url = Annotated[str, typer.Option("--ledger", metavar="URL", envvar="MLLMERASER_LEDGER", help=URL_HELP)]
By = Annotated[
    str, typer.Option("--by", default_factory=login, help="Who does this. Default: your login.", show_default=False)
]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Tenant it belongs to. Default: all.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of an erasure.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Reason, for the record; no personal data.", show_default=False)]


@contextmanager
def opened(url: str, *, create: bool = False) -> Iterator[Ledger]:
    """Open the ledger at `url` and close it when the block ends; `create` makes a missing one, and says so."""
    with needs_extra("serve"):
        from mllmeraser.serving.ledger import Ledger, NoLedgerError
    try:
        book = Ledger.open(url, create=False)
    except NoLedgerError:
        if not create:
            raise
        book = Ledger.open(url)
        note(f"{book.shown}: there was no ledger, this is a new one")
    with book:
        yield book


def command(
    path: str, *examples: str, columns: Sequence[str] = (), create: bool = False
) -> Callable[[Command], Command]:
    """Register a command that works on an open ledger, its argument `book`, and print what it returns.

    The command also gets --ledger, --json, and its examples in the help.

    Args:
        path: Its name, for example `"show"` or `"keys add"`.
        examples: The arguments of each example.
        columns: Columns of the table, for a command that returns a list of records.
        create: Whether to make a missing ledger.
    """

    def decorate(work: Command) -> Command:
        def run(*, url: str, as_json: bool, **rest: Any) -> None:
            with opened(url, create=create) as book:
                result = work(book=book, **rest)
            if isinstance(result, list):
                records = [record.as_dict() for record in result]
                show_result(records, as_json, record_table(records, columns))
            else:
                record = result if isinstance(result, dict) else result.as_dict()
                show_result(record, as_json, record_lines(record))

        add_options(work, run, hide="book", last={"url": (Url, DEFAULT_URL), "as_json": (Json, False)})
        lines = (f"mllmeraser ledger {path} {example}".rstrip() for example in examples or ("",))
        run.__doc__ = "\n\n        ".join([f"{work.__doc__}\n\n    Examples:", *lines])
        (keys if path.startswith("keys ") else ledger).command(path.rpartition(" ")[2])(run)
        return run

    return decorate


@ledger.command("add")
def add(
    *,
    eraser: Annotated[Path, typer.Option("--eraser", metavar="DIR", help="An eraser made by `erase`.")],
    name: Annotated[str, typer.Option("--name", help="Label in lower case; never the name of a person.")],
    tenant: Tenant = None,
    on_request: Annotated[
        bool, typer.Option("--on-request", help="Apply only to requests for `model@name`. Default: to all requests.")
    ] = False,
    by: By,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Add an existing eraser to the ledger. It is not in force until you activate it.

    Examples:

        mllmeraser ledger add --eraser jane.eraser --name case-17
    """
    with needs_extra("serve"):
        from mllmeraser.serving.ledger import erasers
    artifact = erasers.artifact_from_folder(eraser)  # a bad eraser must not create a ledger
    with opened(url, create=True) as book:
        entry = erasers.add(book, artifact, name, by=by, tenant=tenant, default=not on_request)
    show_result(entry.as_dict(), as_json, record_lines(entry.as_dict()))


@command("list", "--state active", "--search case-1", columns=ENTRY)
def list_entries(
    book: Ledger,
    state: Annotated[str | None, typer.Option("--state", help="Only erasures in this state.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only erasures of this tenant.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Part of the label, or the begin of the id.")] = None,
) -> Any:
    """List the erasures."""
    from mllmeraser.serving.ledger.states import check_state

    return book.list(state=None if state is None else check_state(state), tenant=tenant, search=search)


@command("show", "case-17 --json")
def show(book: Ledger, name: Name) -> Any:
    """Show one erasure with its notes, and which active ones it conflicts with."""
    entry = book.get(name)
    notes = [note.as_dict() for note in book.notes(entry.id)]
    return {**entry.as_dict(), "conflicts": book.conflicts(entry.id), "notes": notes}


@command("note", 'case-17 --text "letter of 3 May, file 4711"')
def note_on(
    book: Ledger,
    name: Name,
    *,
    text: Annotated[str, typer.Option("--text", help="One line; no personal data, for it is kept for good.")],
    by: By,
) -> Any:
    """Add a note to an erasure. It cannot be changed; the record holds that it was added, not its text."""
    return book.note(name, by=by, text=text)


@command("history", "case-17", columns=EVENT)
def history(book: Ledger, name: Name) -> Any:
    """List everything that was done to an erasure, and by whom."""
    return book.history(name)


@command("activate", "case-17", 'case-17 --force "checked by hand, see ticket 4711"')
def activate(
    book: Ledger,
    name: Name,
    *,
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Activate without a passed verification; the reason is kept."),
    ] = None,
    by: By,
) -> Any:
    """Put an erasure in force, now or at its scheduled start."""
    return book.activate(name, by=by, force=force)


@command("suspend", 'case-17 --reason "too many false alarms"')
def suspend(book: Ledger, name: Name, reason: Reason, by: By) -> Any:
    """Take an erasure out of force until it is activated again."""
    return book.suspend(name, by=by, reason=reason)


@command("revoke", 'case-17 --reason "request withdrawn"')
def revoke(book: Ledger, name: Name, reason: Reason, by: By) -> Any:
    """Take an erasure out of force for good."""
    return book.revoke(name, by=by, reason=reason)


@command("schedule", "case-17 --starts 2030-01-31T12:00:00+00:00 --expires 2031-01-31T12:00:00+00:00")
def schedule(
    book: Ledger,
    name: Name,
    *,
    starts: Annotated[str | None, typer.Option("--starts", metavar="TIME", help="When it comes into force.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="TIME", help="When it goes out of force.")] = None,
    by: By,
) -> Any:
    """Set when an erasure comes into force and goes out of it. Leaving out an option removes that time."""
    from mllmeraser.serving.ledger.states import parse_time

    starts_at, expires_at = parse_time("--starts", starts), parse_time("--expires", expires)
    return book.schedule(name, by=by, starts_at=starts_at, expires_at=expires_at)


@ledger.command("verify")
def verify(
    kept: Annotated[
        str | None,
        typer.Option("--kept", metavar="SEQ:HASH", help="Head that an earlier run printed and you kept elsewhere."),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Check the whole record for changes made outside mllmeraser. Exit code 1 if there are any.

    Examples:

        mllmeraser ledger verify

        mllmeraser ledger verify --kept 42:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    with opened(url) as book:
        from mllmeraser.serving.ledger.check import parse_head

        report = book.verify_chain(kept=None if kept is None else parse_head(kept))
    where = "" if report.bad is None else f"event {report.bad} "
    head = f"{report.head[0]}:{report.head[1]}"
    good, bad = f"{report.events} events, all unchanged; keep {head}", f"TAMPERED WITH: {where}{report.why}"
    show_result(report.as_dict(), as_json, good if report.ok else bad)
    if not report.ok:
        raise typer.Exit(1)


@command("servers", columns=SERVER)
def servers(book: Ledger) -> Any:
    """List the servers seen within a day, and the version that each has in force."""
    return book.servers()


@command("keys add", '--label "web shop" --tenant shop', create=True)
def add_key(
    book: Ledger,
    *,
    label: Annotated[str, typer.Option("--label", help="What the key is for.")],
    scope: Annotated[str, typer.Option("--scope", help="client, tenant-admin, or admin.")] = "client",
    tenant: Tenant = None,
    by: By,
) -> Any:
    """Make a key and show its secret, this once."""
    from mllmeraser.serving.ledger.states import check_scope

    record, secret = book.add_key(label=label, scope=check_scope(scope), tenant=tenant, by=by)
    return {**record.as_dict(), "secret": secret}


@command("keys list", columns=KEY)
def list_keys(book: Ledger) -> Any:
    """List all keys, revoked ones too; never their secrets."""
    return book.keys()


@command("keys revoke", "1f3a9c04")
def revoke_key(
    book: Ledger, key: Annotated[str, typer.Argument(metavar="ID", help="Id of the key: 8 hex digits.")], by: By
) -> Any:
    """Revoke a key for good, on every server within a minute."""
    return book.revoke_key(key, by=by)
