"""Work around every request: an id, a log line, metrics, a limit on the body, headers for browsers."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mllmeraser.serving.http.errors import response
from mllmeraser.serving.http.metrics import Metrics

log = structlog.get_logger("mllmeraser.http")
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
SAFE_ID = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}
PRINTED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""Content-Security-Policy of certificates, which have inline styles and no script."""


def method_of(scope: Scope) -> str:
    """The method of a request for logs, metrics and spans; unknown ones are not repeated, for clients choose them."""
    return scope["method"] if scope["method"] in METHODS else "_OTHER"


class Around:
    """Outermost middleware except for spans."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        """Refuse bodies longer than ``max_body_bytes``."""
        self._app, self._metrics, self._most = app, metrics, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._most)
        began = time.perf_counter()
        try:
            if exchange.too_long():
                await exchange.refuse()
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except _TooLong:
            if not exchange.started:
                await exchange.refuse()
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            seconds, method = time.perf_counter() - began, method_of(scope)
            self._metrics.requests.labels(route, method, str(exchange.status)).inc()
            self._metrics.latency.labels(route).observe(seconds)
            log.info("request", id=exchange.id, route=route, method=method, status=exchange.status,
                     seconds=round(seconds, 4))  # fmt: skip


class _TooLong(BaseException):
    """The body is too long; not an `Exception`, which body parsers would report as a syntax error."""


class _Exchange:
    """One request: counts the received bytes, and adds headers to the response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        self._scope, self._receive, self._send, self._most = scope, receive, send, most
        self._headers = Headers(scope=scope)
        requested_id = self._headers.get("x-request-id", "")
        self.id = requested_id if SAFE_ID.match(requested_id) else uuid.uuid4().hex
        self.status, self.started, self._read = 499, False, 0
        scope.setdefault("state", {})["request_id"] = self.id

    def too_long(self) -> bool:
        length = self._headers.get("content-length", "0")
        return length.isdigit() and int(length) > self._most

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._most:
                raise _TooLong
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["x-request-id"] = self.id
            if not self._scope["path"].startswith("/page"):
                headers.setdefault("cache-control", "no-store")
        await self._send(message)

    async def refuse(self) -> None:
        answer = response(413, f"a request may have {self._most} bytes")
        await answer(self._scope, self._receive, self.send)
