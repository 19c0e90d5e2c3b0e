"""Keys before everything else: wrong ones are counted whatever comes at once, and without one nothing is read."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from fastapi import Request
from server_kit import NoFitter, Running, asked, running, stop_rate_clock, wait_for

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.http.access import ATTEMPTS, Gatekeeper, KeyFirst, network_of
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.ledger import Principal

RIGHT, KNOWN = "right", "0" * 8
ORIGIN = "https://page.example"


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_rate_clock(monkeypatch)


class SlowLedger:
    """Knows one secret; notes how many are checked, and takes its time."""

    def __init__(self, key: str | None = KNOWN) -> None:
        self.key, self.checked, self._lock = key, 0, threading.Lock()

    def recognises(self, secret: str) -> bool:
        return False

    def claimed_key(self, secret: str) -> str | None:
        return self.key

    def authenticate(self, secret: str) -> Principal | None:
        with self._lock:
            self.checked += 1
        time.sleep(0.02)
        return Principal(KNOWN, "app", "client", None) if secret == RIGHT else None


def request_of(secret: str, host: str = "192.0.2.1") -> Request:
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    return Request({"type": "http", "headers": headers, "client": (host, 1), "state": {}})


def codes(gatekeeper: Gatekeeper, *requests: Request) -> list[int]:
    """What requests get that come at once."""

    async def one(request: Request) -> int:
        try:
            await gatekeeper.admit(request, "client")
        except Refusal as refusal:
            return refusal.status
        return 200

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(request) for request in requests))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("key", [KNOWN, None], ids=["of a key", "of none"])
def test_many_wrong_keys_at_once_are_no_more_than_may_be_tried(key):
    ledger = SlowLedger(key)
    found = codes(Gatekeeper(ledger, 600), *(request_of("wrong") for _ in range(200)))
    assert (found.count(401), found.count(429)) == (ATTEMPTS, 200 - ATTEMPTS) and ledger.checked == ATTEMPTS


def test_many_right_ones_at_once_all_pass():
    gatekeeper = Gatekeeper(SlowLedger(), 600)
    assert codes(gatekeeper, *(request_of(RIGHT) for _ in range(4 * ATTEMPTS))) == [200] * 4 * ATTEMPTS
    assert codes(gatekeeper, *(request_of("wrong") for _ in range(ATTEMPTS))) == [401] * ATTEMPTS, "none was counted"


def test_an_attempt_that_the_ledger_could_not_check_is_not_counted():
    class Away(SlowLedger):
        def authenticate(self, secret: str) -> Principal | None:
            raise Refusal(503, "away")

    gatekeeper = Gatekeeper(Away(), 600)
    assert codes(gatekeeper, *(request_of("wrong") for _ in range(3 * ATTEMPTS))) == [503] * 3 * ATTEMPTS


def test_a_network_of_ipv6_is_one_address():
    gatekeeper = Gatekeeper(SlowLedger(), 600)
    hosts = [f"2001:db8:1:2::{number:x}" for number in range(1, ATTEMPTS + 2)]
    assert sorted(codes(gatekeeper, *(request_of("wrong", host) for host in hosts))) == [401] * ATTEMPTS + [429]
    assert codes(gatekeeper, request_of("wrong", "2001:db8:1:3::1")) == [401], "another network"


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("testclient", "testclient"),
    ],
)
def test_what_an_address_is_counted_as(host, counted):
    assert network_of(host) == counted


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("access") / "ledger.db"
    with running(tiny_llava, path, NoFitter(), origins=(ORIGIN,)) as found:
        yield found


@pytest.mark.parametrize("authorization", [None, "Basic eDp5", "Bearer", f"Bearer mk_{'0' * 8}_{'x' * 43}"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/keys", "/v1/erasures/x/activate", "/v1/erasures"])
def test_without_a_key_nobody_learns_whether_the_body_was_right(server, path, authorization):
    headers = {"content-type": "application/json", **({"authorization": authorization} if authorization else {})}
    with server.http(None) as client:
        response = client.post(path, content=b"{broken", headers=headers)
    server.server.gatekeeper.__post_init__()  # the count is of the address that all tests share
    assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
    with server.http() as client:
        assert client.post(path, content=b"{broken", headers=headers | dict(client.headers)).status_code == 400


def test_without_a_key_no_body_is_read():
    sent: list[Any] = []

    async def inner(*_: Any) -> None:
        raise AssertionError("it was let in")

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/erasures", "headers": [], "client": ("192.0.2.1", 1)}
    asyncio.run(KeyFirst(inner, Gatekeeper(SlowLedger(), 600))(scope, receive, send))
    assert sent[0]["status"] == 401


def test_a_key_revoked_while_the_body_comes_is_worthless(server):
    ledger = server.server.ledger
    record, secret = ledger.add_key(label="late", scope="client", tenant=None, by="tests")
    body = json.dumps({"model": "tiny", "messages": asked("Who?"), "max_tokens": 2}).encode()

    def parts() -> Iterator[bytes]:
        yield body[:10]
        wait_for(lambda: ledger.recognises(secret))  # so far it was let in
        ledger.revoke_key(record.id, by="tests")
        yield body[10:]

    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    with server.http(None) as client:
        assert client.post("/v1/chat/completions", content=parts(), headers=headers).status_code == 401


def test_browsers_elsewhere_may_read_why_they_are_refused(server):
    asks = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    with server.http(None) as client:
        assert client.options("/v1/chat/completions", headers=asks).status_code == 200, "it bears no key yet"
        refused = client.post("/v1/chat/completions", headers={"origin": ORIGIN})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == ORIGIN


def test_what_is_no_method_is_not_repeated(server):
    with structlog.testing.capture_logs() as logs, server.http() as client:
        assert client.request("Jane-Doe", "/v1/models").status_code == 405
        counted = client.get("/metrics").text
        (line,) = wait_for(lambda: [entry for entry in logs if entry.get("status") == 405])
    assert line["method"] == "_OTHER" and 'method="_OTHER"' in counted
    assert "Jane" not in counted + str(logs)
