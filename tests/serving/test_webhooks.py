"""Webhooks: what a real receiver gets, in which order, and what happens if it fails first."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ledger_kit import Hands, active, opened, verified
from server_kit import NoFitter, install, loud_eraser, running, wait_for
from structlog.testing import capture_logs
from typer.testing import CliRunner

from mllmeraser.cli.app import app
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.serving.http import webhooks
from mllmeraser.serving.http.metrics import Metrics
from mllmeraser.serving.http.webhooks import Webhooks, check_url, key_of
from mllmeraser.serving.ledger import Ledger

pytest_plugins = ["postgres_kit"]
SECRET = "a secret of the operator"


class Message(NamedTuple):
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver:
    """An HTTP server that answers with the next of `answers`, then with 204; it waits while `go` is not set."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.got, self.go = list(answers), list[Message](), threading.Event()
        self.go.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(Message({k.lower(): v for k, v in self.headers.items()}, body))
                receiver.go.wait(60)
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/hook/of-a-customer"

    def states(self) -> list[tuple[str | None, str]]:
        return [(message.content["old"], message.content["new"]) for message in self.got]


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(*answers)
    thread = threading.Thread(target=receiver.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.go.set()
        receiver.http.shutdown()
        receiver.http.server_close()


@contextmanager
def sending(ledger: Ledger, url: str, server: str = "one") -> Iterator[Webhooks]:
    hooks = Webhooks(ledger, url, SECRET, server, Metrics(), pause_seconds=0.02)
    hooks.start()
    try:
        yield hooks
    finally:
        hooks.stop()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with opened(database_url) as book:
        yield book


def test_each_changed_state_is_told_once_in_order_and_signed(ledger: Ledger) -> None:
    active(ledger, "before", 1)
    with receiving() as receiver, sending(ledger, receiver.url):
        entry = verified(ledger, "jane-doe", 2, passed=False, tenant="shop")
        ledger.note(entry.id, by="ann", text="a note")
        ledger.schedule(entry.id, by="ann")
        ledger.activate(entry.id, by="ann", force="a reason")
        ledger.revoke(entry.id, by="ann", reason="withdrawn")
        wait_for(lambda: len(receiver.got) == 5)
    assert receiver.states() == [
        (None, "requested"),
        ("requested", "fitted"),
        ("fitted", "checks_failed"),
        ("checks_failed", "active"),
        ("active", "revoked"),
    ]
    events = {event.seq: event for event in ledger.history(entry.id)}
    for message in receiver.got:
        content, headers = message.content, message.headers
        assert set(content) == {"type", "entry", "old", "new", "at", "seq"}, "ids, states and times, nothing else"
        assert (content["type"], content["entry"]) == ("erasure.state_changed", entry.id)
        assert content["at"] == events[content["seq"]].as_dict()["at"]
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + message.body
        right = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{right}"
    assert len({message.headers["webhook-id"] for message in receiver.got}) == 5
    assert [message.content["seq"] for message in receiver.got] == sorted(
        seq for seq, event in events.items() if event.action != "scheduled"
    )


def test_a_receiver_that_fails_first_gets_it_again(ledger: Ledger) -> None:
    with receiving(500, 302, 404) as receiver, sending(ledger, receiver.url) as hooks:
        entry = ledger.request("a", by="ann")
        wait_for(lambda: len(receiver.got) == 4)
        ledger.revoke(entry.id, by="ann", reason="r")
        wait_for(lambda: len(receiver.got) == 5)
        wait_for(lambda: 'mllmeraser_webhooks_total{result="delivered"} 2.0' in hooks._metrics.text().decode())
        text = hooks._metrics.text().decode()
    assert receiver.states() == [(None, "requested")] * 4 + [("requested", "revoked")]
    assert len({message.headers["webhook-id"] for message in receiver.got[:4]}) == 1, "the same message"
    assert 'mllmeraser_webhooks_total{result="failed"} 3.0' in text


def test_what_was_not_delivered_is_delivered_by_the_next_start(ledger: Ledger) -> None:
    with receiving() as receiver:
        url, port = receiver.url, receiver.http.server_address[1]
    with sending(ledger, url) as hooks:  # nobody listens there now
        entry = ledger.request("a", by="ann")
        wait_for(lambda: 'result="failed"' in hooks._metrics.text().decode())
    ledger.revoke(entry.id, by="ann", reason="while no server runs")
    again = Receiver()
    again.http.server_close()
    again.http = ThreadingHTTPServer(("127.0.0.1", port), again.http.RequestHandlerClass)
    threading.Thread(target=again.http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with sending(ledger, url):
            wait_for(lambda: len(again.got) == 2)
        assert again.states() == [(None, "requested"), ("requested", "revoked")]
        with sending(ledger, url):
            ledger.request("b", by="ann")
            wait_for(lambda: len(again.got) == 3)
        assert again.states()[2] == (None, "requested")
    finally:
        again.http.shutdown()
        again.http.server_close()


def test_of_two_servers_one_sends(ledger: Ledger) -> None:
    with receiving() as receiver, sending(ledger, receiver.url, "one"), sending(ledger, receiver.url, "two") as second:
        assert ledger.claim_messages(second._target, "two", 60) is None
        for name in ("a", "b", "c"):
            ledger.request(name, by="ann")
        wait_for(lambda: len(receiver.got) == 3)
        assert ledger.claim_messages(second._target, "one", 60) is not None
    assert len({message.content["seq"] for message in receiver.got}) == len(receiver.got) == 3


def test_the_sender_stays_the_sender_while_it_sends_what_piled_up(database_url: str) -> None:
    clock, taken = Hands(), list[int | None]()
    with opened(database_url, clock=clock) as ledger, receiving() as receiver:
        with sending(ledger, receiver.url) as first:
            target = first._target
        for name in ("a", "b", "c", "d"):
            ledger.request(name, by="ann")

        def answered(post: Any = Webhooks._post) -> Any:
            def slowly(self: Webhooks, id: str, body: str) -> str | None:
                fault: str | None = post(self, id, body)
                clock.now += timedelta(seconds=40)
                taken.append(ledger.claim_messages(target, "two", 60))
                return fault

            return slowly

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Webhooks, "_post", answered())
            with sending(ledger, receiver.url):
                wait_for(lambda: len(taken) == 4)
        assert taken == [None] * 4, "each message renews the lease of 60 s"
        assert len(receiver.got) == 4


def test_a_server_whose_lease_is_lost_sends_nothing_more(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LEASE_SECONDS", 0.05)
    lost = threading.Event()
    with receiving() as receiver:
        receiver.go.clear()
        with sending(ledger, receiver.url, "one") as hooks:
            first = ledger.request("a", by="ann")
            ledger.request("b", by="ann")
            wait_for(lambda: len(receiver.got) == 1)
            wait_for(lambda: ledger.claim_messages(hooks._target, "two", 600) is not None)
            claim = ledger.claim_messages

            def claimed(target: str, server: str, seconds: float) -> int | None:
                known = claim(target, server, seconds)
                if known is None:
                    lost.set()
                return known

            monkeypatch.setattr(ledger, "claim_messages", claimed)
            receiver.go.set()
            assert lost.wait(60)
        assert [message.content["entry"] for message in receiver.got] == [first.id]
        assert ledger.sent_messages(hooks._target, "two", ledger.head()[0])
        assert not ledger.sent_messages(hooks._target, "one", ledger.head()[0])


def test_what_another_server_sent_meanwhile_is_not_sent_again(ledger: Ledger) -> None:
    with receiving() as receiver:
        hooks = Webhooks(ledger, receiver.url, SECRET, "one", Metrics())
        assert ledger.claim_messages(hooks._target, "one", 60) == ledger.head()[0]
        entry = ledger.request("a", by="ann")
        (event,) = ledger.history(entry.id)
        message = hooks._message(event)
        assert message is not None and ledger.sent_messages(hooks._target, "one", event.seq)
        assert not hooks._deliver(event, message)
    assert receiver.got == []


def test_an_answer_that_trickles_in_ends_at_the_deadline(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "ANSWER_SECONDS", 0.4)
    done = threading.Event()

    def trickle(listener: socket.socket) -> None:
        found, _ = listener.accept()
        with closing(found), suppress(OSError):  # the client hangs up
            found.sendall(b"HTTP/1.1 204 No Content\r\nx: ")
            while not done.wait(0.05):
                found.sendall(b"x")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=trickle, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        hooks = Webhooks(ledger, url, SECRET, "one", Metrics())
        try:
            assert hooks._post("evt_1", "{}") == "TimeoutError"
        finally:
            done.set()
            thread.join()


def test_an_unforeseen_error_does_not_end_the_thread(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LEASE_SECONDS", 1.0)
    events, broken = ledger.events, [KeyError("Jane Doe")]

    def failing(**options: Any) -> Any:
        if broken:
            raise broken.pop()
        return events(**options)

    monkeypatch.setattr(ledger, "events", failing)
    with capture_logs() as lines, receiving() as receiver, sending(ledger, receiver.url):
        ledger.request("a", by="ann")
        wait_for(lambda: len(receiver.got) == 1)
    assert [(line["log_level"], line["error"]) for line in lines] == [("error", "KeyError")]
    assert "Jane" not in str(lines)


def test_events_of_an_older_ledger_keep_what_a_verification_found(ledger: Ledger) -> None:
    with receiving() as receiver:
        entry = verified(ledger, "jane-doe", passed=False)
        with sending(ledger, receiver.url):
            with ledger._changing("ann") as change:  # an older ledger called this state "verified"
                change.record("scheduled", {"state": "verified", "starts_at": None}, about=entry.id)
            ledger.activate(entry.id, by="ann", force="a reason")
            wait_for(lambda: receiver.got)
    assert receiver.states() == [("checks_failed", "active")]


def test_a_change_does_not_wait_for_the_receiver(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.go.clear()
        options = {"webhook": receiver.url, "webhook_secret": SECRET}
        with running(tiny_llava, tmp_path / "l.db", NoFitter(), **options) as found, found.http() as client:
            id = install(found.server.ledger, loud_eraser(tiny_llava), "case", active=False)
            wait_for(lambda: receiver.got)
            done = client.post(f"/v1/erasures/{id}/activate", json={"force": "a test"}).json()
            assert done["in_force"] and len(receiver.got) == 1, "the first message is not answered yet"
            receiver.go.set()
            wait_for(lambda: len(receiver.got) == 3)
            assert "of-a-customer" not in client.get("/metrics").text + client.get("/v1/audit").text
        assert receiver.states() == [(None, "requested"), ("requested", "fitted"), ("fitted", "active")]


@pytest.mark.parametrize(
    "url",
    ["", "hook", "ftp://a/b", "file:///etc/passwd", "http://", "http://a b/", "https://u:p@a/", "http://a:99999/", "http://a/#x"],
)  # fmt: skip
def test_an_address_that_cannot_be_used(url: str) -> None:
    with pytest.raises(InputError, match="the address of webhooks"):
        check_url(url)


def test_secrets() -> None:
    assert key_of(SECRET) == SECRET.encode()
    assert key_of("whsec_" + base64.b64encode(b"k" * 24).decode()) == b"k" * 24
    for wrong in ("", "short", "whsec_!!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(InputError, match="MLLMERASER_WEBHOOK_SECRET"):
            key_of(wrong)


@pytest.mark.parametrize(("url", "secret", "words"), [("http://a/b", "", "secret"), ("nowhere", SECRET, "no http")])
def test_a_start_without_a_usable_address_or_secret(tmp_path: Path, url: str, secret: str, words: str) -> None:
    book = tmp_path / "l.db"
    arguments = ["serve", "embedded:llava", "--webhook", url, "--ledger", str(book), "--init"]
    result = CliRunner().invoke(app, arguments, env={"MLLMERASER_WEBHOOK_SECRET": secret})
    assert result.exit_code == 2 and words in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not book.exists()
