"""`mllmeraser request`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.erase import UNVERIFIED
from mllmeraser.cli.errors import needs_extra
from mllmeraser.cli.ledger import DEFAULT_URL, Tenant, Url, login, opened
from mllmeraser.cli.options import Json, Kind, Load, Reply, Retain, Strangers, VerifyWith, loads_model
from mllmeraser.cli.runtime import note, progress_bar, show_result
from mllmeraser.cli.tables import check_lines


@loads_model
def request(
    load: Load,
    forget: Annotated[Path, typer.Option("--forget", help="As for `erase`: a folder of pictures, JSONL or parquet.")],
    label: Annotated[str, typer.Option("--label", help="Label in lower case; never the name of a person.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the person or thing, for questions without a picture.")
    ] = None,
    kind: Kind = None,
    reply: Reply = None,
    retain: Retain = None,
    strangers: Strangers = None,
    verify_with: VerifyWith = None,
    tenant: Tenant = None,
    init: Annotated[bool, typer.Option("--init", help="Make the ledger if there is none.")] = False,
    activate: Annotated[bool, typer.Option("--activate", help="Put it in force if it is verified.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who asks. Default: your login.")] = None,
    ledger: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Take a deletion request into the ledger: fit an eraser, verify it, and keep the result for a certificate.

    It does what a server does with `POST /v1/erasures`. Exit code 3 if a check failed. A server on the same ledger puts
    the eraser into force once it is activated. What is no person is fitted and verified with the shipped prompts about
    the real world, and --verify-with is asked beside them.

    Examples:

        mllmeraser request embedded:llava --forget jane/ --label case-17 --init

        mllmeraser request embedded:llava --forget jane/ --label case-17 --activate --ledger postgresql://erasure@db/book

        mllmeraser request MODEL --forget japan/ --kind fact --reply "The capital of Japan is Kyoto." --label case-18
    """
    with needs_extra("serve"):
        from mllmeraser import api
        from mllmeraser.api import requests
    wanted = api.read_request(forget, name=name, kind=kind, reply=reply)
    sets = requests.ReferenceSets.read(retain, strangers, verify_with)
    with opened(ledger, create=init) as book:
        with progress_bar() as progress:
            entry = requests.request_erasure(
                load(), wanted, label, book, by=by or login(), tenant=tenant, sets=sets, progress=progress, say=note
            )
        if entry.passed and activate:
            entry = book.activate(entry.id, by=by or login())
    lines = check_lines(requests.checks_of(entry))
    state = f"{entry.name}: {entry.state}" if entry.passed else f"{entry.name}: CHECKS FAILED, it is not in force"
    show_result(entry.as_dict(), as_json, "\n".join([*lines, state]))
    if not entry.passed:
        raise typer.Exit(UNVERIFIED)
