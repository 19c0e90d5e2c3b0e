"""Tell one configured address about changed states of erasures, in the background, from the ledger's record.

Messages are as https://www.standardwebhooks.com describes: headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`, HMAC-SHA256 over the three parts id, timestamp and body.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.serving.http.metrics import Metrics
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.chain import Event
from mllmeraser.serving.ledger.entries import state_of
from mllmeraser.serving.ledger.states import State, stamp

SECRET_VARIABLE = "MLLMERASER_WEBHOOK_SECRET"
TYPE = "erasure.state_changed"
POLL_SECONDS = 0.5
LEASE_SECONDS = 60.0
ANSWER_SECONDS = 10.0
LONGEST_PAUSE = 60.0
SHORTEST_SECRET = 16
PREFIX = "whsec_"
"""A secret with this prefix is base64, as libraries for webhooks expect it."""
log = structlog.get_logger("mllmeraser.webhooks")


class Webhooks:
    """Sends each change once it is recorded, in order, until the receiver answers with 2xx.

    The ledger keeps how far the messages got, so none is lost with a server. Of several servers one sends. After a
    crash a message may come twice, with the same id. Only the given address is asked: redirects are not followed.
    """

    def __init__(
        self, ledger: Ledger, url: str, secret: str, server: str, metrics: Metrics, *, pause_seconds: float = 1.0
    ) -> None:
        """``pause_seconds`` before the first repetition; each next pause is twice as long, up to a minute.

        Raises:
            InputError: The address or the secret cannot be used.
        """
        self._url, self._key = check_url(url), key_of(secret)
        self._target = hashlib.sha256(url.encode()).hexdigest()
        self._ledger, self._server, self._metrics, self._pause = ledger, server, metrics, pause_seconds
        self._stop = threading.Event()
        self._done = -1
        self._thread = threading.Thread(target=self._follow, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start the thread. The first start of an address begins with the next change."""
        self._ledger.claim_messages(self._target, self._server, LEASE_SECONDS)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not delivered is delivered by the next start, or by another server."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=ANSWER_SECONDS)

    def _follow(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            try:
                wait = self._step()
            except MLLMEraserError as error:  # the next round tries again
                log.warning("webhooks wait for the ledger", error=type(error).__name__)
                wait = LEASE_SECONDS / 3
            except Exception as error:  # noqa: BLE001 - an unforeseen error must not end the thread
                log.error("webhooks failed and go on", error=type(error).__name__)
                wait = LEASE_SECONDS / 3

    def _step(self) -> float:
        """Send what is new; returns the seconds to wait before the next step."""
        head = self._ledger.head()[0]
        if head == self._done:
            return POLL_SECONDS
        sent = self._ledger.claim_messages(self._target, self._server, LEASE_SECONDS)
        if sent is None:
            return LEASE_SECONDS / 3
        for event in self._ledger.events(after=sent):
            message = self._message(event)
            if message is not None and not self._deliver(event, message):
                return 0.0
            sent = event.seq
        if self._ledger.sent_messages(self._target, self._server, sent):
            self._done = sent
        return POLL_SECONDS

    def _message(self, event: Event) -> dict[str, Any] | None:
        """The message about an event; None if no state changed."""
        if event.about is None or "state" not in event.details:
            return None
        *earlier, new = _states(one for one in self._ledger.history(event.about) if one.seq <= event.seq)
        old = earlier[-1] if earlier else None
        if old == new:
            return None
        return {"type": TYPE, "entry": event.about, "old": old, "new": new, "at": stamp(event.at), "seq": event.seq}

    def _deliver(self, event: Event, message: dict[str, Any]) -> bool:
        """Send a message until it is taken; False if this server stops, or another one has taken over."""
        pause = self._pause
        while not self._stop.is_set():
            known = self._ledger.claim_messages(self._target, self._server, LEASE_SECONDS + pause)
            if known is None or known >= event.seq:  # another server is the sender, or was it and sent this
                return False
            fault = self._post(f"evt_{event.hash[:24]}", json.dumps(message))
            self._metrics.webhooks.labels("failed" if fault else "delivered").inc()
            if fault is None:
                return self._ledger.sent_messages(self._target, self._server, event.seq)
            log.warning("webhook not delivered", entry=message["entry"], event_number=event.seq, reason=fault)
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _post(self, id: str, body: str) -> str | None:
        """Send a message once; returns the kind of fault, which quotes neither the address nor the answer."""
        now = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": now,
            "webhook-signature": signature(self._key, id, now, body),
        }
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(self._answer(body, headers), ANSWER_SECONDS))
        except (httpx.HTTPError, httpx.InvalidURL, asyncio.TimeoutError, ValueError, OSError) as error:
            return type(error).__name__
        finally:
            loop.close()  # waits for no look-up of the host

    async def _answer(self, body: str, headers: dict[str, str]) -> str | None:
        """The fault that the receiver's answer states. The caller bounds the time of the whole."""
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, follow_redirects=False, trust_env=False) as client:
            async with client.stream(
                "POST", self._url, content=body, headers=headers
            ) as answer:  # its body is not read
                return None if answer.is_success else f"status {answer.status_code}"


def signature(key: bytes, id: str, timestamp: str, body: str) -> str:
    """The signature of a message: ``v1,`` and HMAC-SHA256 in base64."""
    digest = hmac.new(key, f"{id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def check_url(url: str) -> str:
    """Return a usable address; the error does not quote it, for a path may be a secret.

    Raises:
        InputError: It is not http(s), has no host, or holds a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise InputError("the address of webhooks is no http(s) URL")
    if parts.username is not None or parts.password is not None:
        raise InputError("the address of webhooks holds a user or a password: leave it out, messages are signed")
    return url


def key_of(secret: str) -> bytes:
    """The key of a secret: its text, or the base64 after `PREFIX`.

    Raises:
        InputError: It is too short, or no base64.
    """
    try:
        base = secret.removeprefix(PREFIX)
        key = secret.encode() if base == secret else base64.b64decode(base, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{SECRET_VARIABLE} begins with {PREFIX} and goes on with no base64") from None
    if len(key) < SHORTEST_SECRET:
        raise InputError(f"webhooks need a secret of at least {SHORTEST_SECRET} bytes in {SECRET_VARIABLE}")
    return key


def _states(events: Iterable[Event]) -> list[State]:
    """The states of an entry, in the order of its events; events that say none have none here.

    The result of a verification holds until the next one: events of older ledgers say it only once.
    """
    found, passed = list[State](), None
    for event in events:
        passed = event.details.get("passed", passed)
        if "state" in event.details:
            found.append(state_of(event.details["state"], passed))
    return found
