"""What may be kept of a request: salted digests and counts."""

from __future__ import annotations

from mllmeraser.erasure.fit.split import salted_digest
from mllmeraser.samples.request import Request


def request_digests(request: Request, salt: str) -> dict[str, str]:
    """Salted digests and counts of a request, by label: what a ledger and a certificate may hold of it.

    Whoever has the request and the salt can show that they belong to it; without the salt nothing can be tested
    against a guess.
    """
    found = {"subjects": str(len(request.subjects))}
    for label, samples in (("forget", request.forget), ("retain", request.retain), ("strangers", request.strangers)):
        if samples:
            found[f"{label}_prompts"] = str(len(samples))
            found[f"{label}_digest"] = salted_digest(samples, salt)
    return found
