"""Certificates of erasures, signed where the server has a key."""

from __future__ import annotations

import json
from typing import Any

from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.ledger import Entry
from mllmeraser.serving.verify import Verification, certificate, load_signing_key, render_certificate, sign
from mllmeraser.serving.verify.signing import KEY_VARIABLE

ISSUED = "certificate-issued"


def certificate_json(server: Server, entry: Entry, by: str) -> str:
    """The signed certificate of a verified erasure.

    Raises:
        Refusal: It was not verified, or this server has no key to sign with.
    """
    return json.dumps(_signed(server, entry, by), indent=2, sort_keys=True) + "\n"


def certificate_html(server: Server, entry: Entry, by: str) -> str:
    """The same as a page to print.

    Raises:
        Refusal: As `certificate_json`.
    """
    return render_certificate(_signed(server, entry, by))


def certificate_pdf(server: Server, entry: Entry, by: str) -> bytes:
    """The same as a PDF to file, with the signed JSON attached.

    Raises:
        Refusal: As `certificate_json`.
    """
    from mllmeraser.serving.verify.pdf import certificate_pdf as made  # fonts and all: only where one is asked for

    return made(_signed(server, entry, by))


def _signed(server: Server, entry: Entry, by: str) -> dict[str, Any]:
    if entry.scores is None:
        raise Refusal(409, f"{entry.name} was not verified: there is nothing to certify")
    if server.settings.signing_key is None:
        raise Refusal(409, "this server has no key to sign with: set MLLMERASER_SIGNING_KEY")
    since = [event.at for event in server.ledger.history(entry.id) if event.action == "activated"]
    content = certificate(
        Verification.of(entry.scores),
        erasure_id=entry.id,
        request_digests=entry.request_digests,
        requested_at=entry.requested_at,
        active_since=since[-1] if since and entry.state == "active" else None,
        issuer=server.settings.issuer,
    )
    signed = sign(content, load_signing_key(environment={KEY_VARIABLE: server.settings.signing_key}))
    server.ledger.audit(ISSUED, by=by, details={"entry": entry.id, "state": entry.state})
    return signed
