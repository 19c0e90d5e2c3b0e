"""Who may do what: API keys, scopes, tenants, rate limits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.http.errors import Refusal, answer
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
    bounded per address by `ATTEMPTS` for each id it knows, and once more for all it does not know; also where many
    come at once, for no more are checked at a time than may still turn out wrong.
    """

    ledger: Ledger
    requests_per_minute: int

    def __post_init__(self) -> None:
        """Nothing is counted yet."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_key = RateLimitItemPerMinute(self.requests_per_minute)
        self._wrong = RateLimitItemPerMinute(ATTEMPTS)
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._ended = threading.Condition()

    async def identify(self, request: Request) -> Principal:
        """Whose key the request carries; noted in its state, for what is told of errors depends on it.

        Raises:
            Refusal: 401 without a valid key, 429 after too many wrong ones.
            LedgerError: The ledger cannot be read.
        """
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Refusal(401, "an API key is needed: Authorization: Bearer mk_...", "missing_api_key")
        address = network_of(request.client.host) if request.client else "unknown"
        principal = await run_in_threadpool(self._whose, address, secret.strip())
        request.state.principal = principal
        return principal

    async def admit(self, request: Request, scope: str) -> Principal:
        """Whose key the request carries, if it may do what needs ``scope``.

        Raises:
            Refusal: 401 without a valid key, 403 with one of too small a scope, 429 beyond the rate or after too many
                wrong keys.
            LedgerError: The ledger cannot be read.
        """
        principal = await self.identify(request)  # again after `KeyFirst`: it may be revoked while the body comes
        if RANK[principal.scope] < RANK[scope]:
            raise Refusal(403, f"this needs a key of scope {scope}", "insufficient_scope")
        if not self._limiter.hit(self._per_key, principal.key_id):
            raise Refusal(429, "too many requests with this key", "rate_limited", retry_after=self._wait(principal))
        return principal

    def _whose(self, address: str, secret: str) -> Principal:
        principal = self.ledger.authenticate(secret) if self.ledger.recognises(secret) else None
        return principal or self._guess(address, self.ledger.claimed_key(secret) or NO_KEY, secret)

    def _guess(self, address: str, key: str, secret: str) -> Principal:
        """Whose secret it is that did not pass here before."""
        with self._attempt(address, key):
            principal = self.ledger.authenticate(secret)
            if principal is None:
                self._limiter.hit(self._wrong, address, key)
                raise Refusal(401, "this API key is not valid", "invalid_api_key")
        return principal

    @contextmanager
    def _attempt(self, address: str, key: str) -> Iterator[None]:
        """While a secret is checked; first waits where those under way would, if all are wrong, be too many with it."""
        place = (address, key)
        with self._ended:
            while self._under_way[place] >= self._left(place):
                self._ended.wait()
            self._under_way[place] += 1
        try:
            yield
        finally:
            with self._ended:
                self._under_way[place] -= 1
                self._under_way += Counter()  # keeps no zeros
                self._ended.notify_all()

    def _left(self, place: tuple[str, str]) -> int:
        left = self._limiter.get_window_stats(self._wrong, *place).remaining
        if left <= 0:
            raise Refusal(429, "too many wrong keys from this address", "rate_limited", retry_after=60)
        return left

    def _wait(self, principal: Principal) -> float:
        return self._limiter.get_window_stats(self._per_key, principal.key_id).reset_time - time.time()


class KeyFirst:
    """Middleware: of whoever has no key in force no body is read. What the key may do, each route asks `admit`."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        """Around ``app``."""
        self._app, self._gatekeeper = app, gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/") and scope["method"] != "OPTIONS":
            request = Request(scope)
            try:
                await self._gatekeeper.identify(request)
            except (Refusal, MLLMEraserError) as error:
                await answer(request, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def network_of(host: str) -> str:
    """What an address is counted as: one of IPv6 is its network of 64 bits, all of which one customer has."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:  # a name, or a path
        return host
    if isinstance(address, IPv4Address):
        return host
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


def no_erasure() -> Refusal:
    """The answer for what does not exist, and for what is another tenant's: nobody can tell which."""
    return Refusal(404, "there is no such erasure")


def require_tenant(principal: Principal, tenant: str | None) -> None:
    """Keep tenants apart: whoever is no admin sees and changes what is its tenant's alone.

    Raises:
        Refusal: 404, as for what does not exist: another tenant's erasures are nobody else's business.
    """
    if principal.scope != "admin" and (tenant is None or tenant != principal.tenant):
        raise no_erasure()
