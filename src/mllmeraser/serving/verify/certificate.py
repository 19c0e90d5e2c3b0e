"""The signed certificate of an erasure: what was requested, measured and promised. It holds no personal data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.subject import KIND_COUNT, PERSON
from mllmeraser.serving.verify.signing import is_signed_by, read_json
from mllmeraser.serving.verify.verification import Verification

TYPE = "mllmeraser/erasure-certificate"
FORMAT = 1

PROMISED = (
    "While this eraser is in force on this model, the model answers prompts about the subjects as if it had not "
    "learned about them, at the measured rate.",
    "While it is in force, all other prompts get the same answers as without it, at the measured rate.",
    "The weights of the model are not changed. A removed eraser leaves no trace in the answers.",
)
PROMISED_OF_THINGS = (
    "While this eraser is in force on this model, prompts about the subjects get one fixed sentence as an answer, at "
    "the measured rate. Of a fact, these are the prompts that ask for it.",
    *PROMISED[1:],
)
"""For requests about what is no person."""
FAILED = (
    "Nothing: this eraser missed at least one of its thresholds.",
    "The weights of the model are not changed.",
)
NOT_PROMISED = (
    "The weights still hold what was learned: anyone who has them can run the model without the eraser.",
    "The shares are estimates with 95 % intervals, from prompts like those that were asked. Prompts made to get "
    "around the eraser were not tried.",
    "The subjects were shown in new views of the submitted pictures, not in other pictures of them.",
    "What was forgotten is judged against what the model itself said before. What it never said was not looked for.",
    "Other models, other servers, copies, backups, logs and training data are not covered.",
)

NOT_PROMISED_OF_THINGS = (
    *NOT_PROMISED[:2],
    "The subjects were asked about by their names, and shown in new views of the submitted pictures. Descriptions "
    "without a name, other pictures and the request's own questions were not tried.",
    *NOT_PROMISED[3:],
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
    """The content of a certificate, for `sign`.

    Args:
        verification: What was measured. If it did not pass, the certificate says so and promises nothing.
        erasure_id: Id of the ledger entry, hex digits.
        request_digests: Salted digests and counts of the request; the counts by kind decide what is promised.
        active_since: Time of the last activation, if the eraser is active.
        issued_at: Time of issue; None means now.

    Raises:
        InputError: If the id is invalid, or a digest is neither hex digits nor a count, and so could be a name.
    """
    if not _ID.fullmatch(erasure_id):
        raise InputError("the id of an erasure is 8 to 64 hex digits")
    for label, digest in request_digests.items():
        if not _LABEL.fullmatch(label) or not _DIGEST.fullmatch(str(digest)):
            raise InputError("a certificate holds only digests and counts of a request")
    things = any(label.startswith(KIND_COUNT) and label != f"{KIND_COUNT}{PERSON}" for label in request_digests)
    promised = PROMISED_OF_THINGS if things else PROMISED
    return {
        "type": TYPE,
        "format": FORMAT,
        "issuer": issuer,
        "issued_at": _stamp(issued_at or datetime.now(timezone.utc)),
        "erasure": {"id": erasure_id, "requested_at": _stamp(requested_at), "active_since": _stamp(active_since)},
        "requested": {label: str(digest) for label, digest in request_digests.items()},
        "measured": verification.as_dict(),
        "promised": list(promised if verification.passed else FAILED),
        "not_promised": list(NOT_PROMISED_OF_THINGS if things else NOT_PROMISED),
    }


def check_certificate(document: str | bytes | Mapping[str, Any], public_key: Ed25519PublicKey) -> bool:
    """Whether a document is a certificate, signed with the key and unchanged since.

    Raises:
        InputError: If it is not a JSON object, or holds a name twice.
    """
    content = document if isinstance(document, Mapping) else read_json(document, "the certificate")
    return content.get("type") == TYPE and content.get("format") == FORMAT and is_signed_by(content, public_key)


def _stamp(moment: datetime | None) -> str | None:
    """A time in UTC, to the second."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InputError("a time in a certificate needs its time zone")
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
