"""Spans of a server, as an OpenTelemetry collector gets them, and what must never be in them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from server_kit import NoFitter, Running, asked, free_port, install, loud_eraser, png, running, wait_for
from test_http_admin import SmallFitter
from typer.testing import CliRunner

from mllmeraser.cli.app import app
from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving import spans
from mllmeraser.serving.ledger import Ledger
from tiny import picture

pytest.importorskip("opentelemetry.sdk", reason="the extra telemetry is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CHAT = "/v1/chat/completions"
QUESTION, PERSON, LABEL = "Who was Ottoline Quibble?", "Ottoline Quibble", "case-quibble"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found = InMemorySpanExporter()
    spans.start(SimpleSpanProcessor(found))
    yield found
    spans.stop()


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def ask(server: Running, count: int = 1, **headers: str) -> list[str]:
    """Answers to a question with a picture, asked at the same time."""
    answers: list[str] = []

    def one() -> None:
        body = {"model": "tiny", "messages": asked(QUESTION, picture(1)), "max_tokens": 4}
        with server.http("client") as client:
            response = client.post(CHAT, json=body, headers=headers)
        assert response.status_code == 200, response.text
        answers.append(response.json()["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return answers


def test_a_request_its_wait_and_its_batch(tiny_llava: MultimodalModel, tmp_path: Path, exporter: Any) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava), LABEL)
    with running(tiny_llava, path, NoFitter()) as server:
        ask(server, traceparent=f"00-{TRACE}-{PARENT}-01")
        (request,) = wait_for(lambda: named(exporter, f"POST {CHAT}"))
        (queue,) = wait_for(lambda: named(exporter, "queue"))  # the batch ends after its last answer was sent
    (batch,) = named(exporter, "batch")
    assert dict(request.attributes) == {
        "http.request.method": "POST", "http.route": CHAT, "http.response.status_code": 200,
    }  # fmt: skip
    assert f"{request.context.trace_id:032x}" == TRACE and f"{request.parent.span_id:016x}" == PARENT
    assert queue.parent.span_id == request.context.span_id
    assert [link.context.span_id for link in batch.links] == [request.context.span_id]
    assert [link.context.span_id for link in queue.links] == [batch.context.span_id]
    wanted = {"batch.rows": 1, "batch.failed": 0, "set.version": server.server.sync.version, "set.erasers": 1}
    found = dict(batch.attributes)
    assert 1 <= found.pop("mllmeraser.batch.tokens") <= 4
    assert found == {f"mllmeraser.{name}": value for name, value in wanted.items()}
    # The engine gives durations: begin and end are reckoned back from the moment when the batch was reported.
    slack = 50_000_000
    assert queue.end_time == batch.start_time and queue.start_time <= queue.end_time
    assert request.start_time - slack <= queue.start_time and batch.start_time < batch.events[0].timestamp
    assert batch.events[0].timestamp <= batch.end_time and batch.start_time < request.end_time + slack
    assert request.resource.attributes["service.name"] == "mllmeraser"


def test_requests_answered_together_share_a_batch(tiny_llava: MultimodalModel, tmp_path: Path, exporter: Any) -> None:
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as server:
        ask(server, 6)
        requests = wait_for(lambda: (found := named(exporter, f"POST {CHAT}")) and len(found) == 6 and found)
        queues = wait_for(lambda: (found := named(exporter, "queue")) and len(found) == 6 and found)
    batches = named(exporter, "batch")
    assert sum(batch.attributes["mllmeraser.batch.rows"] for batch in batches) == 6
    ids = {span.context.span_id for span in requests}
    assert {queue.parent.span_id for queue in queues} == ids
    assert {link.context.span_id for batch in batches for link in batch.links} == ids
    assert all(batch.parent is None for batch in batches)


def test_a_fit_its_verification_and_a_failure(tiny_llava: MultimodalModel, tmp_path: Path, exporter: Any) -> None:
    with running(tiny_llava, tmp_path / "l.db", SmallFitter()) as server, server.http() as client:
        for label in ("broken", LABEL):
            files = [("images", ("1.png", png(picture(5)), "image/png"))]
            asked_for = client.post("/v1/erasures", data={"name": label, "person": PERSON}, files=files)
            assert asked_for.status_code == 202
            at = f"/v1/erasures/{asked_for.json()['id']}"
            wait_for(lambda at=at: client.get(at).json()["progress"] is None)
        secrets = list(server.keys.values())
    broken, fit = named(exporter, "fit")
    assert broken.attributes["error.type"] == "InputError" and not broken.status.is_ok
    assert not fit.attributes and fit.status.is_unset
    (verify,) = named(exporter, "verify")
    assert verify.start_time >= fit.end_time
    assert_silent(exporter, [*secrets, LABEL, at.rpartition("/")[2]])


def assert_silent(exporter: InMemorySpanExporter, more: list[str]) -> None:
    """Nothing that anybody wrote or was answered is in any span, wherever in it."""
    everything = "\n".join(span.to_json() for span in exporter.get_finished_spans())
    for text in [*more, QUESTION, PERSON, "Ottoline", "data:image"]:
        assert text not in everything, text


def test_nothing_that_was_written_is_exported(tiny_llava: MultimodalModel, tmp_path: Path, exporter: Any) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava), LABEL)
    with running(tiny_llava, path, NoFitter()) as server:
        said = ask(server)
        with server.http() as client:
            client.get(f"/{PERSON}", params={"q": QUESTION})
            client.get("/v1/erasures/Ottoline", headers={"x-request-id": "Ottoline"})
            client.request("OTTOLINE", "/v1/models")
            client.post(CHAT, json={"model": "Ottoline", "messages": QUESTION})
            compared = client.post("/v1/compare", json={"messages": asked(QUESTION)})
            assert compared.status_code == 200 and LABEL in compared.text, "the gate of that eraser was read"
        wait_for(lambda: named(exporter, "POST /v1/compare"))
        names = {span.name for span in exporter.get_finished_spans()}
        assert {"GET unknown", "GET /v1/erasures/{id}", "_OTHER /v1/models"} <= names
        allowed = {
            "http.request.method", "http.route", "http.response.status_code", "mllmeraser.batch.rows", "error.type",
            "mllmeraser.batch.tokens", "mllmeraser.batch.failed", "mllmeraser.set.version", "mllmeraser.set.erasers",
        }  # fmt: skip
        assert {key for span in exporter.get_finished_spans() for key in span.attributes} <= allowed
        answers = [compared.json()["before"], compared.json()["after"], *said]
        assert_silent(exporter, [*server.keys.values(), LABEL, *(text for text in answers if len(text) > 3)])


class Collector(BaseHTTPRequestHandler):
    """What takes OTLP over HTTP."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server.got  # type: ignore[attr-defined]
    spans.stop()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_collector_gets_them(
    tiny_llava: MultimodalModel, tmp_path: Path, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "forgetful")
    spans.start()
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as server:
        ask(server)
        wait_for(lambda: server.server.engine.status().running == 0)
    spans.stop()
    assert {path for path, _ in collector} == {"/v1/traces"}
    sent = [ExportTraceServiceRequest.FromString(body) for _, body in collector]
    resources = [resource for request in sent for resource in request.resource_spans]
    assert {
        attribute.value.string_value
        for resource in resources
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    } == {"forgetful"}
    names = {span.name for resource in resources for scope in resource.scope_spans for span in scope.spans}
    assert {f"POST {CHAT}", "queue", "batch"} <= names
    assert not any(text.encode() in body for _, body in collector for text in (PERSON, *server.keys.values()))


def test_the_command_sends_what_is_left_when_it_is_told_to_end(
    tiny_llava_path: Path, tmp_path: Path, collector: Any
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mllmeraser", "serve", str(tiny_llava_path), "--traces", "--port", str(port),
               "--init", "--ledger", f"sqlite:///{tmp_path}/l.db"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def alive() -> bool:
        assert process.poll() is None
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
        return False

    try:
        wait_for(alive)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
    assert any(b"GET /healthz" in body for _, body in collector)


def test_the_variables_alone_send_nothing(
    tiny_llava: MultimodalModel, tmp_path: Path, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI has spans of its own, with paths and queries in them, and can be switched on from outside."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as server, server.http() as client:
        client.get(f"/{PERSON}", params={"q": QUESTION})
        ask(server)
    assert collector == []


def test_a_collector_that_is_away_holds_nothing_up(
    tiny_llava: MultimodalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    spans.start()
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as server:
        ask(server, 3)
    spans.stop()


@pytest.mark.usefixtures("exporter")
def test_log_lines_bear_the_id_of_the_trace(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    merge = structlog.contextvars.merge_contextvars
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as server, structlog.testing.capture_logs([merge]) as logs:
        ask(server, traceparent=f"00-{TRACE}-{PARENT}-01")
        (line,) = wait_for(lambda: [entry for entry in logs if entry.get("route") == CHAT])
    assert line["trace"] == TRACE


def test_without_the_extra_one_line_says_so(tiny_llava_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    result = CliRunner().invoke(app, ["serve", str(tiny_llava_path), "--traces"])
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "opentelemetry" in line and "pip install 'mllmeraser[telemetry]'" in line


def test_nothing_is_imported_unless_asked_for() -> None:
    """FastAPI imports the interface of OpenTelemetry, which does nothing by itself; the rest is ours to leave out."""
    code = (
        "import sys, mllmeraser.api.serving, mllmeraser.serving.http.app; "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
