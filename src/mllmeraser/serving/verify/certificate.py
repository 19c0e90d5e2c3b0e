"""The certificate of an erasure: what was requested, measured and promised, signed. It holds no personal data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.verify.signing import is_signed_by, read_json
from mllmeraser.serving.verify.verification import Verification

TYPE = "mllmeraser/erasure-certificate"
FORMAT = 1

PROMISED = (
    "While this eraser is in force on this model, prompts about the subjects are answered as if the model had not "
    "learnt of them, as often as was measured.",
    "While it is in force, all other prompts get the answers of the model without it, as often as was measured.",
    "The weights of the model are not changed, and an eraser that is taken off leaves no trace in its answers.",
)
FAILED = (
    "Nothing: this eraser missed at least one of its thresholds.",
    "The weights of the model are not changed.",
)
NOT_PROMISED = (
    "The weights still hold what was learnt: whoever has them can run the model without the eraser.",
    "The shares are estimates, with 95 % intervals, from prompts like those that were asked. Prompts made to get "
    "around the eraser were not tried.",
    "The subjects were shown in new views of the pictures that were handed in, not in other pictures of them.",
    "What was forgotten is judged against what the model itself said before. What it never said was not looked for.",
    "Other models, other servers, copies, backups, logs and training data are not covered.",
)

_DIGEST = re.compile(r"[0-9a-f]{16,128}|[0-9]{1,12}")
_ID = re.compile(r"[0-9a-f]{8,64}")
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,40}")


def certificate(
    verification: Verification,
    *,
    erasure_id: str,
    request_digests: Mapping[str, str],
    requested_at: datetime | None = None,
    active_since: datetime | None = None,
    issuer: str = "",
    issued_at: datetime | None = None,
) -> dict[str, Any]:
    """The content of a certificate, to be signed with `sign`.

    Args:
        verification: What was measured. A certificate of one that did not pass says so and promises nothing.
        erasure_id: Of the entry in the ledger, hex digits.
        request_digests: Salted digests and counts of the request.
        requested_at: When it was requested.
        active_since: Since when the eraser is in force.
        issuer: Who issues the certificate: an organisation.
        issued_at: When; None: now.

    Raises:
        InputError: The id is no id, or a digest is something else than hex digits or a count: it could be a name.
    """
    if not _ID.fullmatch(erasure_id):
        raise InputError("the id of an erasure is 8 to 64 hex digits")
    for label, digest in request_digests.items():
        if not _LABEL.fullmatch(label) or not _DIGEST.fullmatch(str(digest)):
            raise InputError("a certificate holds digests and counts of a request, and nothing else about it")
    return {
        "type": TYPE,
        "format": FORMAT,
        "issuer": issuer,
        "issued_at": _stamp(issued_at or datetime.now(timezone.utc)),
        "erasure": {"id": erasure_id, "requested_at": _stamp(requested_at), "active_since": _stamp(active_since)},
        "requested": {label: str(digest) for label, digest in request_digests.items()},
        "measured": verification.as_dict(),
        "promised": list(PROMISED if verification.passed else FAILED),
        "not_promised": list(NOT_PROMISED),
    }


def check_certificate(document: str | bytes | Mapping[str, Any], public_key: Ed25519PublicKey) -> bool:
    """Whether a certificate is one, signed by the key, and unchanged since.

    Raises:
        InputError: It is no JSON object, or a name stands in it twice.
    """
    found = document if isinstance(document, Mapping) else read_json(document, "the certificate")
    return found.get("type") == TYPE and found.get("format") == FORMAT and is_signed_by(found, public_key)


def _stamp(moment: datetime | None) -> str | None:
    """A moment in UTC, to the second.

    Raises:
        InputError: Its time zone is not known.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InputError("a time in a certificate needs its time zone")
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
