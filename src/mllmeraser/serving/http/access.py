"""Access control: API keys, scopes, tenants, rate limits."""

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
"""Wrong keys per minute for one address and one key id: enough for typing mistakes, too few for guessing."""
NO_KEY = "no such key"
"""All wrong keys without the id of a key in force are counted under this one."""


@dataclass
class Gatekeeper:
    """Checks keys against the ledger and counts requests.

    Wrong keys are counted by address and by the key id they begin with, unknown ids together. Beyond `ATTEMPTS` the
    address gets 429 for that id without a check. A secret that passed here before is always checked, so clients behind
    a shared address cannot lock each other out. This bounds the slow hashes per address, also at the same time.
    """

    ledger: Ledger
    requests_per_minute: int

    def __post_init__(self) -> None:
        """Begin with empty counters."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_key = RateLimitItemPerMinute(self.requests_per_minute)
        self._wrong = RateLimitItemPerMinute(ATTEMPTS)
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._ended = threading.Condition()

    async def identify(self, request: Request) -> Principal:
        """Return the owner of the request's key, and store it in the request's state; raises as `admit`."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Refusal(401, "an API key is needed: Authorization: Bearer mk_...", "missing_api_key")
        address = network_of(request.client.host) if request.client else "unknown"
        principal = await run_in_threadpool(self._owner, address, secret.strip())
        request.state.principal = principal
        return principal

    async def admit(self, request: Request, scope: str) -> Principal:
        """Return the owner of the request's key, if the key has at least ``scope``.

        Raises `Refusal`: 401 without a valid key, 403 if its scope is too small, 429 beyond the rate limit or after too
        many wrong keys. Raises `LedgerError` if the ledger cannot be read.
        """
        principal = await self.identify(request)  # after `KeyFirst` again: it may be revoked while the body arrives
        if RANK[principal.scope] < RANK[scope]:
            raise Refusal(403, f"this needs a key of scope {scope}", "insufficient_scope")
        if not self._limiter.hit(self._per_key, principal.key_id):
            reset = self._limiter.get_window_stats(self._per_key, principal.key_id).reset_time
            raise Refusal(429, "too many requests with this key", "rate_limited", retry_after=reset - time.time())
        return principal

    def _owner(self, address: str, secret: str) -> Principal:
        principal = self.ledger.authenticate(secret) if self.ledger.recognises(secret) else None
        if principal is not None:
            return principal
        place = (address, self.ledger.claimed_key(secret) or NO_KEY)
        with self._attempt(place):
            principal = self.ledger.authenticate(secret)
            if principal is None:
                self._limiter.hit(self._wrong, *place)
                raise Refusal(401, "this API key is not valid", "invalid_api_key")
        return principal

    @contextmanager
    def _attempt(self, place: tuple[str, str]) -> Iterator[None]:
        """Check a secret in this block. Waits first while the running checks could use up all attempts."""
        with self._ended:
            while self._under_way[place] >= self._left(place):
                self._ended.wait()
            self._under_way[place] += 1
        try:
            yield
        finally:
            with self._ended:
                self._under_way[place] -= 1
                self._under_way += Counter()  # drops zeros
                self._ended.notify_all()

    def _left(self, place: tuple[str, str]) -> int:
        left = self._limiter.get_window_stats(self._wrong, *place).remaining
        if left <= 0:
            raise Refusal(429, "too many wrong keys from this address", "rate_limited", retry_after=60)
        return left


class KeyFirst:
    """Middleware: authenticate before reading the request body. Each route checks the scope with `admit`."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        """Wrap ``app``."""
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
    """Return what an address is counted as: IPv6 as its /64 network, which belongs to one customer."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:  # a name, or a path
        return host
    if isinstance(address, IPv4Address):
        return host
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))


def no_erasure() -> Refusal:
    """The same 404 for missing erasures and for another tenant's, so callers cannot tell them apart."""
    return Refusal(404, "there is no such erasure")


def require_tenant(principal: Principal, tenant: str | None) -> None:
    """Keep tenants apart: raise `no_erasure` unless the principal is an admin or of this tenant."""
    if principal.scope != "admin" and (tenant is None or tenant != principal.tenant):
        raise no_erasure()
