"""An erasure from a terminal: from the request to a verified entry and its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mllmeraser.api.erasures import Say
from mllmeraser.api.reference_sets import ReferenceSets
from mllmeraser.api.serving import Fitting, verifier_of
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.serving.http.certificates import FORMATS, issue
from mllmeraser.serving.http.fits import Fits
from mllmeraser.serving.ledger import Entry, Ledger
from mllmeraser.serving.packing import pack_request, request_digests


def request_erasure(
    model: str | MultimodalModel,
    request: Request,
    label: str,
    book: Ledger,
    *,
    by: str,
    tenant: str | None = None,
    default: bool = True,
    sets: ReferenceSets | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> Entry:
    """Record a request in a ledger, fit it and verify it, as a server does. It is not in force until it is activated.

    If this process dies, the next server or `request_erasure` on the ledger takes the work up.

    Raises:
        InputError: The request, the label or the sets cannot be used; or it was fitted and cannot be verified.
        LedgerError: The ledger cannot be written, or another server has taken up the work.
    """
    chosen = sets or ReferenceSets()
    packed = pack_request(request)  # a request that cannot be kept is refused before the model is loaded
    loaded = load_model(model) if isinstance(model, str) else model
    digests = request_digests(request, book.salt)
    entry = book.request(label, by=by, tenant=tenant, default=default, digests=digests, inputs=packed)
    say(f"{entry.name}: requested, {entry.id}")
    fitting = Fitting(retain=chosen.retain, strangers=chosen.strangers)
    fits = Fits(loaded, book, fitting, 1, verifier_of(loaded, chosen), server=f"terminal of {entry.id}")
    fits.finish(entry.id, progress)
    return book.get(entry.id)


def issue_certificate(book: Ledger, name: str, out: Path, *, key: str, issuer: str, by: str) -> str | bytes:
    """The signed certificate of an entry, in the format of the suffix of `out`: .json, .html or .pdf.

    Raises:
        InputError: The suffix is another one, there is no such entry, it is not verified, or the key is none.
    """
    kind = out.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise InputError(f"{out}: the name has to end in {', '.join(f'.{one}' for one in FORMATS)}")
    return FORMATS[kind][1](issue(book, book.get(name), key, issuer, by))


def checks_of(entry: Entry) -> list[dict[str, Any]]:
    """The checks of a verified entry, as plain data; none before."""
    return list((entry.scores or {}).get("checks", []))
