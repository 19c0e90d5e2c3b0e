"""`mllmeraser ledger ...`: the record of erasures, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.ledger_common import DEFAULT_URL, By, Tenant, Url, installed, opened, table, tell, who
from mllmeraser.cli.options import Json

ledger = typer.Typer(no_args_is_help=True, help="The record of erasures: what is in force, since when, and by whom.")
keys = typer.Typer(no_args_is_help=True, help="The keys of clients and operators of the service.")
ledger.add_typer(keys, name="keys")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of an erasure.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record; no personal data.", show_default=False)]

ENTRY = ("name", "state", "tenant", "default", "passed", "starts_at", "expires_at", "id")
EVENT = ("seq", "at", "by", "action", "version", "details")
KEY = ("id", "label", "scope", "tenant", "created_at", "created_by", "revoked_at")
SERVER = ("server", "version", "ready", "seen_at")


@ledger.command("add")
def add(
    eraser: Annotated[Path, typer.Option("--eraser", metavar="DIR", help="An eraser made by `erase`.")],
    name: Annotated[str, typer.Option("--name", help="A label for it, in lower case; never the name of a person.")],
    tenant: Tenant = None,
    on_request: Annotated[
        bool, typer.Option("--on-request", help="Only for requests that ask for `model@name`. Default: for all.")
    ] = False,
    by: By = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Put an eraser that was made elsewhere into the ledger. It is not in force before it is activated.

    Examples:

        mllmeraser ledger add --eraser jane.eraser --name case-17
    """
    with installed():
        from mllmeraser.serving.ledger import erasers
    artifact = erasers.artifact_from_folder(eraser)  # before a ledger is made for it
    with opened(url, create=True) as book:
        entry = erasers.add(book, artifact, name, by=who(by), tenant=tenant, default=not on_request)
        tell(entry.as_dict(), as_json)


@ledger.command("list")
def list_entries(
    state: Annotated[str | None, typer.Option("--state", help="Only those in this state.", show_default=False)] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.", show_default=False)] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Every erasure.

    Examples:

        mllmeraser ledger list --state active
    """
    with opened(url) as book:
        from mllmeraser.serving.ledger.states import check_state

        found = book.list(state=None if state is None else check_state(state), tenant=tenant)
        table([entry.as_dict() for entry in found], ENTRY, as_json)


@ledger.command("show")
def show(name: Name, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """One erasure, and what to look at before it is activated.

    Examples:

        mllmeraser ledger show case-17 --json
    """
    with opened(url) as book:
        entry = book.get(name)
        tell({**entry.as_dict(), "conflicts": book.conflicts(entry.id)}, as_json)


@ledger.command("history")
def history(name: Name, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Everything that was done to an erasure, and by whom.

    Examples:

        mllmeraser ledger history case-17
    """
    with opened(url) as book:
        table([event.as_dict() for event in book.history(name)], EVENT, as_json)


@ledger.command("activate")
def activate(
    name: Name,
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Take it unverified or not passed; the reason is recorded."),
    ] = None,
    by: By = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Bring an erasure into force, or, where its start lies ahead, leave it to the service to do so then.

    Examples:

        mllmeraser ledger activate case-17

        mllmeraser ledger activate case-17 --force "checked by hand, see ticket 4711"
    """
    with opened(url) as book:
        tell(book.activate(name, by=who(by), force=force).as_dict(), as_json)


@ledger.command("suspend")
def suspend(name: Name, reason: Reason, by: By = None, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Take an erasure out of force until it is activated again.

    Examples:

        mllmeraser ledger suspend case-17 --reason "too many false alarms"
    """
    with opened(url) as book:
        tell(book.suspend(name, by=who(by), reason=reason).as_dict(), as_json)


@ledger.command("revoke")
def revoke(name: Name, reason: Reason, by: By = None, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Take an erasure out of force for good.

    Examples:

        mllmeraser ledger revoke case-17 --reason "request withdrawn"
    """
    with opened(url) as book:
        tell(book.revoke(name, by=who(by), reason=reason).as_dict(), as_json)


@ledger.command("schedule")
def schedule(
    name: Name,
    starts: Annotated[str | None, typer.Option("--starts", metavar="TIME", help="When it comes into force.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="TIME", help="When it goes out of it.")] = None,
    by: By = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Set when an erasure comes into force and goes out of it; an end that is not given is taken away.

    Examples:

        mllmeraser ledger schedule case-17 --starts 2030-01-31T12:00:00+00:00 --expires 2031-01-31T12:00:00+00:00
    """
    with opened(url) as book:
        from mllmeraser.serving.ledger.states import parse_time

        begin, end = parse_time("--starts", starts), parse_time("--expires", expires)
        tell(book.schedule(name, by=who(by), starts_at=begin, expires_at=end).as_dict(), as_json)


@ledger.command("verify")
def verify(
    kept: Annotated[
        str | None,
        typer.Option("--kept", metavar="SEQ:HASH", help="A head that an earlier run showed and you kept elsewhere."),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Read the whole record again: was anything changed behind the ledger's back? Exit code 1 if so.

    Examples:

        mllmeraser ledger verify

        mllmeraser ledger verify --kept 42:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    with opened(url) as book:
        from mllmeraser.serving.ledger.check import parse_head

        report = book.verify_chain(kept=None if kept is None else parse_head(kept))
    if as_json:
        tell(report.as_dict(), as_json)
    elif report.ok:
        print(f"{report.events} events, all as they were written; keep {report.head[0]}:{report.head[1]}")
    else:
        where = "" if report.bad is None else f"event {report.bad} "
        print(f"TAMPERED WITH: {where}{report.why}")
    if not report.ok:
        raise typer.Exit(1)


@ledger.command("servers")
def servers(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """The servers seen within a day, and the version that each has in force.

    Examples:

        mllmeraser ledger servers
    """
    with opened(url) as book:
        table([row.as_dict() for row in book.servers()], SERVER, as_json)


@keys.command("add")
def add_key(
    label: Annotated[str, typer.Option("--label", help="What the key is for.")],
    scope: Annotated[str, typer.Option("--scope", help="client, tenant-admin, or admin.")] = "client",
    tenant: Tenant = None,
    by: By = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once.

    Examples:

        mllmeraser ledger keys add --label "web shop" --tenant shop
    """
    with opened(url, create=True) as book:
        from mllmeraser.serving.ledger.states import check_scope

        record, secret = book.add_key(label=label, scope=check_scope(scope), tenant=tenant, by=who(by))
        tell({**record.as_dict(), "secret": secret}, as_json)


@keys.command("list")
def list_keys(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Every key, revoked ones too; never the secret.

    Examples:

        mllmeraser ledger keys list
    """
    with opened(url) as book:
        found = book.keys()
    table([record.as_dict() for record in found], KEY, as_json)


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="Its id: 8 hex digits.", show_default=False)],
    by: By = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Stop a key for good, within a minute on every server.

    Examples:

        mllmeraser ledger keys revoke 1f3a9c04
    """
    with opened(url) as book:
        tell(book.revoke_key(key, by=who(by)).as_dict(), as_json)
