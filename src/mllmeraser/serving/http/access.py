"""Who may do what: API keys, scopes, tenants, rate limits."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool

from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.ledger import Ledger, Principal

RANK = {"client": 0, "tenant-admin": 1, "admin": 2}
ATTEMPTS = 20
"""Wrong keys per minute from one address at one key: enough for a typing mistake, too few for guessing."""
NO_KEY = "no such key"
"""What wrong keys are counted under that are of no key in force, whatever id they bear."""


@dataclass
class Gatekeeper:
    """Checks keys against the ledger and counts requests.

    Wrong keys are counted by address and by the id that stands at the head of a key; those whose id is of no key in
    force are counted together. Beyond `ATTEMPTS` such keys from there are refused unchecked. So an address that tries
    ids that there are not costs the holders of keys behind the same address nothing, and of an id that there is, only
    its own holder could pay: but a secret that passed here before is always checked. The work of a slow hash is
    bounded per address by `ATTEMPTS` for each id it knows, and once more for all it does not know.
    """

    ledger: Ledger
    requests_per_minute: int

    def __post_init__(self) -> None:
        """Nothing is counted yet."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_key = RateLimitItemPerMinute(self.requests_per_minute)
        self._wrong = RateLimitItemPerMinute(ATTEMPTS)

    async def admit(self, request: Request, scope: str) -> Principal:
        """Whose key the request carries, if it may do what needs ``scope``.

        Raises:
            Refusal: 401 without a valid key, 403 with one of too small a scope, 429 beyond the rate or after too many
                wrong keys.
        """
        address = request.client.host if request.client else "unknown"
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Refusal(401, "an API key is needed: Authorization: Bearer mk_...", "missing_api_key")
        principal = await run_in_threadpool(self._whose, address, secret.strip())
        if RANK[principal.scope] < RANK[scope]:
            raise Refusal(403, f"this needs a key of scope {scope}", "insufficient_scope")
        if not self._limiter.hit(self._per_key, principal.key_id):
            raise Refusal(429, "too many requests with this key", "rate_limited", retry_after=self._wait(principal))
        return principal

    def _whose(self, address: str, secret: str) -> Principal:
        if not self.ledger.recognises(secret) and not self._limiter.test(self._wrong, address, self._counted(secret)):
            raise Refusal(429, "too many wrong keys from this address", "rate_limited", retry_after=60)
        principal = self.ledger.authenticate(secret)
        if principal is None:
            self._limiter.hit(self._wrong, address, self._counted(secret))
            raise Refusal(401, "this API key is not valid", "invalid_api_key")
        return principal

    def _counted(self, secret: str) -> str:
        return self.ledger.claimed_key(secret) or NO_KEY

    def _wait(self, principal: Principal) -> float:

        return self._limiter.get_window_stats(self._per_key, principal.key_id).reset_time - time.time()


def require_tenant(principal: Principal, tenant: str | None) -> None:
    """Keep tenants apart: whoever is no admin sees and changes what is its tenant's alone.

    Raises:
        Refusal: 404, as for what does not exist: another tenant's erasures are nobody else's business.
    """
    if principal.scope != "admin" and (tenant is None or tenant != principal.tenant):
        raise Refusal(404, "there is no such erasure")
