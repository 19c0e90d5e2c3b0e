"""Signed certificates of erasures, if the server has a signing key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.ledger import Entry, Ledger
from mllmeraser.serving.verify import Verification, certificate, load_signing_key, render_certificate, sign
from mllmeraser.serving.verify.signing import KEY_VARIABLE

ISSUED = "certificate-issued"


def signed_certificate(server: Server, entry: Entry, by: str) -> dict[str, Any]:
    """Sign the certificate of an erasure. Raises `Refusal` (409) if it is not verified or the server has no key."""
    key = server.settings.signing_key
    try:
        check_verified(entry)
        if key is None:
            raise Refusal(409, "this server has no key to sign with: set MLLMERASER_SIGNING_KEY")
        return issue(server.ledger, entry, key, server.settings.issuer, by)
    except NotVerifiedError as error:
        raise Refusal(409, str(error)) from None


class NotVerifiedError(InputError):
    """There is nothing to certify."""


def check_verified(entry: Entry) -> None:
    """Raise `NotVerifiedError` if there is nothing to certify."""
    if entry.scores is None:
        raise NotVerifiedError(f"{entry.name} was not verified: there is nothing to certify")


def issue(ledger: Ledger, entry: Entry, key: str, issuer: str, by: str) -> dict[str, Any]:
    """Sign the certificate of an erasure with a key as in `MLLMERASER_SIGNING_KEY`, and record it.

    Raises:
        NotVerifiedError: It was not verified.
        InputError: The key is none.
    """
    check_verified(entry)
    assert entry.scores is not None
    since = [event.at for event in ledger.history(entry.id) if event.action == "activated"]
    content = certificate(
        Verification.of(entry.scores),
        erasure_id=entry.id,
        request_digests=entry.request_digests,
        requested_at=entry.requested_at,
        active_since=since[-1] if since and entry.state == "active" else None,
        issuer=issuer,
    )
    signed = sign(content, load_signing_key(environment={KEY_VARIABLE: key}))
    ledger.audit(ISSUED, by=by, details={"entry": entry.id, "state": entry.state})
    return signed


def _json(signed: dict[str, Any]) -> str:
    return json.dumps(signed, indent=2, sort_keys=True) + "\n"


def _pdf(signed: dict[str, Any]) -> bytes:
    from mllmeraser.serving.verify.pdf import certificate_pdf  # with its fonts, only when needed

    return certificate_pdf(signed)


FORMATS: dict[str, tuple[str, Callable[[dict[str, Any]], str | bytes]]] = {
    "json": ("application/json", _json),
    "html": ("text/html", render_certificate),
    "pdf": ("application/pdf", _pdf),
}
"""File suffix -> media type and renderer; the PDF has the signed JSON attached."""
